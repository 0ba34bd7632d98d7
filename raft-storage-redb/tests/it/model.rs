//! Random histories against the model.

use crate::disk::Disk;
use crate::support::{Action, Model};
use proptest::collection::vec;
use proptest::prelude::*;
use raft_core::log_store::LogStore;
use raft_storage_redb::RedbLog;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => Just(Action::Identity),
        4 => (0..4_u64).prop_map(|vote| Action::HardState { vote }),
        12 => (0..6_u64, 0..20_u64, 0..4000_usize)
            .prop_map(|(back, count, size)| Action::Append { back, count, size }),
        2 => (0..6_u64, 0..2_u64, 0..150_000_usize)
            .prop_map(|(back, count, size)| Action::Append { back, count, size }),
        5 => (0..30_u64).prop_map(|kept| Action::Compact { kept }),
        1 => (1..5_u64).prop_map(|beyond| Action::CompactBeyond { beyond }),
        1 => (0..50_u64).prop_map(|index| Action::Reset { index }),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn holds_what_the_model_holds(
        writes in vec((vec((0..4_u64, action()), 1..5), prop::bool::weighted(0.1)), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let disk = Disk::default();
        let open = || RedbLog::with_backend(dir.path(), disk.clone()).unwrap();
        let mut log = open();
        for ((actions, reopen), term) in writes.into_iter().zip(1..) {
            let ops: Vec<_> = actions
                .into_iter()
                .map(|(group, action)| {
                    let op = action.op(&model, group, term);
                    model.apply(std::slice::from_ref(&op));
                    op
                })
                .collect();
            log.write(&ops).unwrap();
            if reopen {
                drop(log);
                log = open();
                prop_assert_eq!(model.difference(&mut log), None);
            }
        }
        prop_assert_eq!(model.difference(&mut log), None);
        drop(log);
        log = open();
        prop_assert_eq!(model.difference(&mut log), None);
    }
}
