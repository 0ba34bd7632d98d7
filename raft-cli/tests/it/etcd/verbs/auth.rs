//! Users, roles and what they may do.

use crate::etcd::case::{Case, same};
use crate::etcd::compare::Pair;

/// Whether the service is there.
const SERVED: bool = false;

const CASES: &[Case] = &[
    same("auth enable"),
    same("auth disable"),
    same("user list"),
    same("role list"),
    same("user add root:secret"),
    same("user add root:secret"),
    same("user add alice:wonder -w json"),
    same("user add :none"),
    same("user add bob --no-password"),
    same("user add carol --interactive=false").input("pass\n"),
    same("user list"),
    same("user list -w json"),
    same("user get root"),
    same("user get nobody"),
    same("user get root -w json"),
    same("user get"),
    same("user passwd alice --interactive=false").input("other\n"),
    same("user passwd nobody --interactive=false").input("other\n"),
    same("role add reader"),
    same("role add reader"),
    same("role add root"),
    same("role add writer -w json"),
    same("role add"),
    same("role list"),
    same("role list -w json"),
    same("role grant-permission reader read a"),
    same("role grant-permission reader read dir --prefix=true"),
    same("role grant-permission reader read m --from-key"),
    same("role grant-permission writer readwrite a z"),
    same("role grant-permission writer nonsense a"),
    same("role grant-permission nobody read a"),
    same("role get reader"),
    same("role get reader -w json"),
    same("role get writer"),
    same("role get nobody"),
    same("role revoke-permission reader a"),
    same("role revoke-permission reader a"),
    same("role revoke-permission reader m --from-key"),
    same("role get reader"),
    same("user grant-role alice reader"),
    same("user grant-role alice nobody"),
    same("user grant-role nobody reader"),
    same("user grant-role bob writer"),
    same("user get alice --detail"),
    same("user revoke-role alice writer"),
    same("auth enable"),
    same("user grant-role root root"),
    same("put dir/1 x"),
    same("auth enable"),
    same("auth enable --user root:secret"),
    same("get dir/1"),
    same("get dir/1 --user alice:other"),
    same("get dir/1 --user alice:wonder"),
    same("get dir --prefix --user alice:other"),
    same("get other --user alice:other"),
    same("put dir/1 y --user alice:other"),
    same("del dir --prefix --user alice:other"),
    same("txn --user alice:other").input("\nput dir/1 x\n\n\n"),
    same("watch dir/1 --user nobody:other"),
    same("user list --user alice:other"),
    same("user get alice --user alice:other"),
    same("role get reader --user alice:other"),
    same("role get writer --user alice:other"),
    same("member list --user alice:other"),
    same("lease grant 100 --user alice:other"),
    same("lease revoke {lease1} --user alice:other"),
    same("compaction 2 --user alice:other"),
    same("defrag --user alice:other"),
    same("endpoint status --user alice:other"),
    same("endpoint health --user alice:other"),
    same("user delete alice --user alice:other"),
    same("role delete writer --user root:secret"),
    same("user delete bob --user root:secret"),
    same("user delete nobody --user root:secret"),
    same("role delete nobody --user root:secret"),
    same("user delete root --user root:secret"),
    same("user revoke-role root root --user root:secret"),
    same("auth disable --user alice:other"),
    same("auth disable --user root:secret"),
    same("user delete root"),
    same("user list"),
    same("get dir/1 -w json"),
];

/// Who may do what, and how it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_are_those_of_etcd() {
    if !SERVED {
        return;
    }
    let mut pair = Pair::start().await;
    pair.run(CASES).await;
    pair.end();
}
