//! Certificates between nodes, read anew when their files change. What cannot be used is told once,
//! and what was there before stays in force: files are replaced one after the other. It is tried
//! again until it can be used, as that may come without a change that shows: with time, for a
//! certificate that is not valid yet, or with other rights to a file.

use super::credentials;
use super::plan::{CredentialFiles, CredentialSource};
use crate::failure::Failure;
use raft_core::types::NodeId;
use raft_net_quic::{Credentials, QuicTransport};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::sleep;
use tracing::{info, warn};

/// How often the files are looked at. Connections between nodes stand for long: nothing waits.
const LOOK: Duration = Duration::from_secs(2);

/// What tells that files were changed.
pub(super) type Stamp = Vec<Option<(SystemTime, u64)>>;

/// That of the files as they are now; what is made in the node's own directory has none.
pub(super) fn stamp(source: &CredentialSource) -> Stamp {
    let CredentialSource::Files(CredentialFiles { ca, cert, key }, _) = source else {
        return Vec::new();
    };
    let of = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    [ca, cert, key].map(of).into()
}

/// Where a node's certificates are, and what was read last of them.
pub(super) struct Renewal {
    pub(super) source: CredentialSource,
    pub(super) node: NodeId,
    pub(super) data_dir: PathBuf,
    pub(super) known: Stamp,
    /// Why that cannot be used, if it cannot.
    pub(super) failed: Option<String>,
}

impl Renewal {
    /// Has the transport go by what the files say, until this is dropped.
    pub(super) async fn follow(mut self, transport: Arc<QuicTransport>) {
        if matches!(self.source, CredentialSource::MadeHere) {
            return;
        }
        loop {
            sleep(LOOK).await;
            // Files may be slow, and the thread has a node to run.
            let looked = tokio::task::spawn_blocking(move || {
                let found = self.look();
                (self, found)
            });
            let Ok((own, found)) = looked.await else { return };
            self = own;
            let Some(found) = found else { continue };
            let renewed = found.map_err(|failure| failure.message).and_then(|credentials| {
                transport.renew(&credentials).map_err(|error| error.to_string())
            });
            match renewed {
                Ok(()) => {
                    self.failed = None;
                    info!("the certificates between nodes have changed");
                }
                Err(error) if self.fails(&error) => {
                    warn!(%error, "the node keeps the certificates it has");
                }
                Err(_) => {}
            }
        }
    }

    /// What the files say, if they have changed or could not be used the last time.
    fn look(&mut self) -> Option<Result<Credentials, Failure>> {
        let stamp = stamp(&self.source);
        if stamp != self.known {
            // Before they are read: what changes meanwhile is read again.
            self.known = stamp;
            self.failed = None;
        } else if self.failed.is_none() {
            return None;
        }
        Some(credentials::load(&self.source, self.node, &self.data_dir))
    }

    /// Notes why what is there cannot be used; whether that is news.
    fn fails(&mut self, error: &str) -> bool {
        let news = self.failed.as_deref() != Some(error);
        self.failed = Some(error.to_owned());
        news
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Proof;
    use super::*;
    use crate::cert;
    use std::path::Path;

    fn of(dir: &Path) -> Renewal {
        let ca = cert::make_authority(dir, false).unwrap();
        let own = cert::make_node(dir, NodeId(1), &[], false).unwrap();
        let files = CredentialFiles { ca: ca.certificate, cert: own.certificate, key: own.key };
        let source = CredentialSource::Files(files, Proof::Names);
        let known = stamp(&source);
        Renewal { source, node: NodeId(1), data_dir: dir.to_owned(), known, failed: None }
    }

    /// Replaces a file such that it still looks like before.
    fn replace(file: &Path, text: &str) {
        let changed = fs::metadata(file).unwrap().modified().unwrap();
        fs::write(file, text).unwrap();
        let file = fs::File::options().append(true).open(file).unwrap();
        file.set_modified(changed).unwrap();
    }

    /// As `follow` does, without the transport: whether something was read, and the news of it.
    fn look(renewal: &mut Renewal) -> Option<Result<(), bool>> {
        let found = renewal.look()?;
        let told = found.map_err(|failure| renewal.fails(&failure.message));
        if told.is_ok() {
            renewal.failed = None;
        }
        Some(told.map(drop))
    }

    #[test]
    fn what_cannot_be_used_is_tried_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let mut renewal = of(dir.path());
        let file = dir.path().join("n1.pem");
        assert_eq!(look(&mut renewal), None);
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, "nothing").unwrap();
        assert_eq!(look(&mut renewal), Some(Err(true)));
        assert_eq!(look(&mut renewal), Some(Err(false)), "told once");
        fs::write(&file, "nothing else").unwrap();
        assert_eq!(look(&mut renewal), Some(Err(true)), "of each change");
        let broken = "-".repeat(good.len());
        fs::write(&file, broken).unwrap();
        assert_eq!(look(&mut renewal), Some(Err(true)));
        replace(&file, &good);
        assert_eq!(look(&mut renewal), Some(Ok(())));
        assert_eq!(look(&mut renewal), None);
    }

    /// Or else it would be told again and again.
    #[test]
    fn a_certificate_that_is_not_valid_yet_is_told_of_without_the_time_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut renewal = of(dir.path());
        let authority = fs::read_to_string(dir.path().join("ca-key.pem")).unwrap();
        let authority = rcgen::KeyPair::from_pem(&authority).unwrap();
        let ca = fs::read_to_string(dir.path().join("ca.pem")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, authority).unwrap();
        let key = fs::read_to_string(dir.path().join("n1-key.pem")).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(4000, 1, 2);
        let key = rcgen::KeyPair::from_pem(&key).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        fs::write(dir.path().join("n1.pem"), certificate).unwrap();
        let told = renewal.look().unwrap().unwrap_err().message;
        assert!(told.ends_with("n1.pem is not valid before 4000-01-02T00:00:00Z"), "{told}");
    }
}
