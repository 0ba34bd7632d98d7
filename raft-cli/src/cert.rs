//! Certificates: an authority of one's own, and the node and client certificates it signs.
//!
//! Owns the names and formats of the PEM files in a certificate folder. Keys are ECDSA P-256, key
//! files are readable by their owner only, and nothing here replaces a file unless it is told to:
//! the loss of an authority's key cannot be undone.

use crate::args::cert::{Cert, CertKind};
use crate::failure::{Failure, Kind};
use crate::output::Output;
use raft_core::types::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an authority is valid: ten years.
const AUTHORITY_DAYS: u64 = 3653;
/// How long a node's or client's certificate is valid: one year.
const LEAF_DAYS: u64 = 366;
/// Certificates are valid from a little before they are made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// The authority's certificate in a certificate folder.
pub(crate) const AUTHORITY: &str = "ca";

/// The two files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM (PKCS #8), mode 0600.
    pub key: PathBuf,
}

impl Files {
    /// Where the certificate called `name` is in `dir`: `name.pem` and `name-key.pem`.
    pub fn of(dir: &Path, name: &str) -> Self {
        Self {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}-key.pem")),
        }
    }

    /// Writes both, the key first: a certificate without its key is of no use.
    fn write(&self, certificate: &str, key: &KeyPair, force: bool) -> Result<(), Failure> {
        if !force {
            // Looked at before anything is written, so that refusal leaves no half pair behind.
            for file in [&self.key, &self.certificate] {
                if file.try_exists().unwrap_or(true) {
                    return Err(exists(file));
                }
            }
        }
        write_file(&self.key, &key.serialize_pem(), 0o600, force)?;
        write_file(&self.certificate, certificate, 0o644, force)
    }
}

/// Runs `raft cert`: makes what is asked for and prints the files.
///
/// # Errors
/// As [`make_authority`], [`make_node`] and [`make_client`].
pub fn run(args: &Cert, output: &mut Output<'_>) -> Result<(), Failure> {
    let files = match &args.kind {
        CertKind::Ca(ca) => make_authority(&ca.dir, ca.force),
        CertKind::Node(node) => make_node(&node.dir, node.id, &node.hosts, node.force),
        CertKind::Client(client) => make_client(&client.dir, &client.name, client.force),
    }?;
    output.print(&files, || format!("{}\n{}\n", files.certificate.display(), files.key.display()))
}

/// Makes an authority in `dir`, which is made too if it is missing: valid for ten years.
///
/// # Errors
/// Of kind `Usage` for a name that cannot be used, `Local` if a file is there already, cannot be
/// written, or the authority is missing or damaged.
pub fn make_authority(dir: &Path, force: bool) -> Result<Files, Failure> {
    fs::create_dir_all(dir).map_err(|source| io_error("create", dir, &source))?;
    let files = Files::of(dir, AUTHORITY);
    // A name of its own, or a certificate of another authority would look like a forged one.
    let number = getrandom::u32()
        .map_err(|error| Failure::local("cannot draw a random number", &error.into()))?;
    let name = format!("raft certificate authority {number:08x}");
    let mut params = params(&name, AUTHORITY_DAYS);
    // Signs leaves only: no authority below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
    files.write(&params.self_signed(&key).map_err(unmade)?.pem(), &key, force)?;
    Ok(files)
}

/// Makes the certificate of a node, signed by the authority in `dir`: valid for one year, for both
/// ends of a connection, under the node's internal names and `hosts` (names or addresses).
///
/// # Errors
/// Of kind `Usage` for a name that cannot be used, `Local` if a file is there already, cannot be
/// written, or the authority is missing or damaged.
pub fn make_node(dir: &Path, id: NodeId, hosts: &[String], force: bool) -> Result<Files, Failure> {
    let issuer = load_authority(dir)?;
    let mut params = params(&id.to_string(), LEAF_DAYS);
    params.subject_alt_names = vec![
        dns_name(&raft_net_quic::server_name(id))?,
        // What clients ask for: they are given any node's address and do not know whose it is.
        dns_name(CLIENT_SERVER_NAME)?,
    ];
    for host in hosts {
        params.subject_alt_names.push(host_name(host)?);
    }
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    make_leaf(dir, &id.to_string(), params, &issuer, force)
}

/// Makes a client's certificate, signed by the authority in `dir`: valid for one year, for the
/// client's end only. `name` is its common name and names its files.
///
/// # Errors
/// Of kind `Usage` for a name that cannot be used, `Local` if a file is there already, cannot be
/// written, or the authority is missing or damaged.
pub fn make_client(dir: &Path, name: &str, force: bool) -> Result<Files, Failure> {
    check_client_name(name)?;
    let issuer = load_authority(dir)?;
    let mut params = params(name, LEAF_DAYS);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    make_leaf(dir, name, params, &issuer, force)
}

/// How long a certificate is valid that nobody has to renew: a hundred years.
const OWN_DAYS: u64 = 36_525;

/// A certificate that only its own key has signed, `cert.pem` and `key.pem` in `dir`, for `hosts`
/// (names or addresses): made unless it is there. It proves nothing to those who do not have it.
///
/// # Errors
/// Of kind `Local` if it cannot be written, `Usage` for a host that cannot be used.
pub(crate) fn made_here(dir: &Path, hosts: &[String]) -> Result<Files, Failure> {
    let files = Files { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    if files.certificate.is_file() && files.key.is_file() {
        return Ok(files);
    }
    fs::create_dir_all(dir).map_err(|source| io_error("create", dir, &source))?;
    let mut params = params("raft", OWN_DAYS);
    params.subject_alt_names =
        hosts.iter().map(|host| host_name(host)).collect::<Result<_, _>>()?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
    // One of the two may be left of a start that was interrupted.
    files.write(&params.self_signed(&key).map_err(unmade)?.pem(), &key, true)?;
    Ok(files)
}

/// The name under which clients check any node's certificate.
const CLIENT_SERVER_NAME: &str = raft_net_quic::ANY_NODE;

fn make_leaf(
    dir: &Path,
    name: &str,
    mut params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
    force: bool,
) -> Result<Files, Failure> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
    let files = Files::of(dir, name);
    files.write(&params.signed_by(&key, issuer).map_err(unmade)?.pem(), &key, force)?;
    Ok(files)
}

fn load_authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, Failure> {
    let files = Files::of(dir, AUTHORITY);
    let read = |file: &Path| {
        fs::read_to_string(file).map_err(|error| {
            let failure = Failure::local(format!("cannot read {}", file.display()), &error);
            match error.kind() {
                io::ErrorKind::NotFound => {
                    failure.advice(format!("`raft cert ca {}` makes it", dir.display()))
                }
                _ => failure,
            }
        })
    };
    let unusable = |file: &Path, error: rcgen::Error| {
        Failure::new(Kind::Local, format!("{}: {error}", file.display()))
    };
    let certificate = read(&files.certificate)?;
    let key = KeyPair::from_pem(&read(&files.key)?).map_err(|error| unusable(&files.key, error))?;
    Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| unusable(&files.certificate, error))
}

fn params(common_name: &str, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(BACKDATED);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now;
    params.not_after = epoch + now + BACKDATED + Duration::from_secs(days * 24 * 3600);
    params
}

fn host_name(host: &str) -> Result<SanType, Failure> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => dns_name(host),
    }
}

fn dns_name(name: &str) -> Result<SanType, Failure> {
    let bad = |why| Failure::usage(format!("host {name:?}: {why}"));
    if name.is_empty() || name.len() > 253 {
        return Err(bad("a host name has 1 to 253 characters"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte)) {
        return Err(bad("not a host name or an IP address"));
    }
    Ok(SanType::DnsName(name.try_into().map_err(unmade)?))
}

/// A client's name becomes a file name: plain characters, and none that a node or the authority
/// has.
fn check_client_name(name: &str) -> Result<(), Failure> {
    let bad = |why| Err(Failure::usage(format!("client name {name:?}: {why}")));
    if name.is_empty() || name.len() > 64 {
        return bad("1 to 64 characters are allowed");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(plain) || name.starts_with(['.', '-']) {
        return bad("letters, digits and -_. are allowed, and no - or . in front");
    }
    let number = name.strip_prefix('n').unwrap_or_default();
    let is_node = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_node || name == AUTHORITY || name.ends_with("-key") {
        return bad("taken by the files of a node or the authority");
    }
    Ok(())
}

/// Writes a file whole or not at all: a new one is opened as new, a replacement is renamed into
/// place.
fn write_file(file: &Path, text: &str, mode: u32, force: bool) -> Result<(), Failure> {
    let target = if force { file.with_extension("pem.new") } else { file.to_owned() };
    if force {
        // A leftover of an attempt that was interrupted may have another mode.
        let _ = fs::remove_file(&target);
    }
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        _ => io_error("write", &target, &source),
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut open = options.open(&target).map_err(failed)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(failed)?;
    if force {
        fs::rename(&target, file).map_err(|source| io_error("replace", file, &source))?;
    }
    Ok(())
}

fn exists(file: &Path) -> Failure {
    Failure::new(Kind::Local, format!("{} exists already", file.display()))
        .advice("--force replaces it")
}

fn io_error(action: &str, file: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot {action} {}", file.display()), error)
}

fn unmade(error: rcgen::Error) -> Failure {
    Failure::new(Kind::Local, format!("cannot make a certificate: {error}"))
}
