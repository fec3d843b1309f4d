//! The cluster's certificate authority: made once, and what it signs for the API, the broker, people and nodes.
//!
//! In:       a folder (`<data_dir>/pki`), the names under which the master is reached, who is to get a certificate.
//! Out:      PEM files there: `ca`, `server`, `bramble-admin`, `bramble-master`, and a pair for each node; keys with mode 0600.
//! Never:    makes a second CA where there is a first one: a CA certificate without its key is an error that says so.
//!
//! All certificates are valid from 1970 on, because a Pi without a battery clock lives then, and until 2099. A file is written
//! beside its place, synced, and renamed; a leaf's key stays when its certificate is signed anew, so that a power cut between
//! two files never leaves a pair that does not fit.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::rng::Rng;
use crate::tls::{Identity, TlsError, identity};

/// The user of the kubeconfig that is made.
pub const ADMIN: &str = "bramble-admin";
/// The group that may do everything.
pub const ADMIN_GROUP: &str = "system:masters";
/// The master, as a client of an external broker.
pub const MASTER: &str = "bramble-master";
/// The group of nodes.
pub const NODE_GROUP: &str = "bramble:nodes";

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file that cannot be read or written.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// `read` or `write`.
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key or a certificate that cannot be made or parsed.
    #[error("cannot use {}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A CA certificate that is none.
    #[error("cannot use {}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TlsError,
    },
    /// The CA's certificate without its key: everything it signed would be lost with a new one.
    #[error("{} is there but its key {} is missing: put the key back, or remove both and join every node again", certificate.display(), key.display())]
    KeyLost {
        /// The certificate.
        certificate: PathBuf,
        /// The missing key.
        key: PathBuf,
    },
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, mode 0600.
    pub key: PathBuf,
    /// Whether the certificate was signed just now.
    pub signed: bool,
}

/// The cluster's CA, ready to sign.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    pem: String,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the CA in `dir`, or makes it: ECDSA P-256, named after the cluster.
    ///
    /// # Errors
    /// When files cannot be read or written, or are not what they should be.
    pub fn open_or_create(dir: &Path, cluster: &str) -> Result<Self, AuthorityError> {
        let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let io = |act, path: &Path| {
            let path = path.to_path_buf();
            move |source| AuthorityError::Io { act, path, source }
        };
        std::fs::create_dir_all(dir).map_err(io("write", dir))?;
        let pem = match std::fs::read_to_string(&certificate) {
            Ok(pem) => Some(pem),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &certificate)(error)),
        };
        if pem.is_some() && !key.exists() {
            return Err(AuthorityError::KeyLost { certificate, key });
        }
        let pair = key_pair(&key)?;
        let (pem, name) = match pem {
            Some(pem) => {
                let subject = CertificateDer::from_pem_slice(pem.as_bytes())
                    .map_err(|source| TlsError::Pem { what: "CA", source })
                    .and_then(|der| identity(&der))
                    .map_err(|source| AuthorityError::Certificate { path: certificate.clone(), source })?;
                (pem, subject.common_name)
            }
            None => {
                // The name tells one cluster's CA from another's.
                let name = format!("bramble CA {cluster} {:08x}", Rng::from_os("ca").bits() >> 32);
                let made = ca_params(&name).self_signed(&pair);
                let pem = made.map_err(|source| AuthorityError::Key { path: certificate.clone(), source })?.pem();
                write_file(&certificate, pem.as_bytes(), 0o644).map_err(io("write", &certificate))?;
                (pem, name)
            }
        };
        let issuer = Issuer::new(ca_params(&name), pair);
        Ok(Self { dir: dir.to_path_buf(), pem, name, issuer })
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Where the CA's certificate is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The certificate of API and broker; signed anew when it does not cover all `names` (DNS names and addresses).
    ///
    /// # Errors
    /// When a file cannot be written or a name cannot stand in a certificate.
    pub fn server(&self, names: &BTreeSet<String>) -> Result<Pair, AuthorityError> {
        let subject = Identity { common_name: "bramble-apiserver".into(), organizations: vec![] };
        self.leaf(&self.dir, "server", &subject, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The certificate of a client named `common_name` in `groups`, as `<dir>/<stem>.crt` and `.key`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client(&self, dir: &Path, stem: &str, common_name: &str, groups: &[&str]) -> Result<Pair, AuthorityError> {
        let organizations = groups.iter().map(|&group| group.to_owned()).collect();
        let subject = Identity { common_name: common_name.into(), organizations };
        self.leaf(dir, stem, &subject, &BTreeSet::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The kubeconfig's user: `bramble-admin` in `system:masters`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn admin(&self) -> Result<Pair, AuthorityError> {
        self.client(&self.dir, ADMIN, ADMIN, &[ADMIN_GROUP])
    }

    /// The master as a client of an external broker.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn master(&self) -> Result<Pair, AuthorityError> {
        self.client(&self.dir, MASTER, MASTER, &[])
    }

    /// A node, into `<dir>/node.crt` and `node.key`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn node(&self, dir: &Path, name: &str) -> Result<Pair, AuthorityError> {
        self.client(dir, "node", name, &[NODE_GROUP])
    }

    /// A certificate, PEM, for a node that keeps its key: only the public point of it, on the curve P-256, came here.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign_node(&self, name: &str, point: Vec<u8>) -> Result<String, AuthorityError> {
        let subject = Identity { common_name: name.to_owned(), organizations: vec![NODE_GROUP.to_owned()] };
        let params = leaf_params(&subject, ExtendedKeyUsagePurpose::ClientAuth);
        let made = params.signed_by(&PublicKey(point), &self.issuer);
        Ok(made.map_err(|source| AuthorityError::Key { path: self.path(), source })?.pem())
    }

    fn leaf(
        &self,
        dir: &Path,
        stem: &str,
        subject: &Identity,
        names: &BTreeSet<String>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair, AuthorityError> {
        let (certificate, key) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
        let io = |source| AuthorityError::Io { act: "write", path: certificate.clone(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let pair = key_pair(&key)?;
        if std::fs::read(&certificate).is_ok_and(|pem| self.covers(&pem, &pair, subject, names)) {
            return Ok(Pair { certificate, key, signed: false });
        }
        let mut params = leaf_params(subject, usage);
        let failed = |source| AuthorityError::Key { path: certificate.clone(), source };
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
            });
        }
        let made = params.signed_by(&pair, &self.issuer).map_err(failed)?;
        write_file(&certificate, made.pem().as_bytes(), 0o644).map_err(io)?;
        Ok(Pair { certificate, key, signed: true })
    }

    /// Whether a certificate that is there is ours, for this key and subject, and has all the names.
    fn covers(&self, pem: &[u8], pair: &KeyPair, subject: &Identity, names: &BTreeSet<String>) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pem) else { return false };
        let Ok(parsed) = x509_cert::Certificate::from_der(&der) else { return false };
        let body = &parsed.tbs_certificate;
        let same_subject = identity(&der).is_ok_and(|found| found == *subject);
        let same_key = body.subject_public_key_info.to_der().is_ok_and(|found| found == pair.subject_public_key_info());
        let ours = body.issuer.to_string() == format!("CN={}", self.name);
        let present: BTreeSet<String> = match body.get::<SubjectAltName>() {
            Ok(Some((_, found))) => found.0.iter().filter_map(alternative_name).collect(),
            _ => BTreeSet::new(),
        };
        same_subject && same_key && ours && names.is_subset(&present)
    }
}

fn alternative_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
            4 => <[u8; 4]>::try_from(bytes.as_bytes()).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(bytes.as_bytes()).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The public half of somebody's key of the curve P-256.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn leaf_params(subject: &Identity, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    for group in &subject.organizations {
        params.distinguished_name.push(DnType::OrganizationName, group.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, subject.common_name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The key in `path`, made when there is none.
fn key_pair(path: &Path) -> Result<KeyPair, AuthorityError> {
    let failed = |source| AuthorityError::Key { path: path.to_path_buf(), source };
    match std::fs::read_to_string(path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
            write_file(path, pair.serialize_pem().as_bytes(), 0o600).map_err(|source| AuthorityError::Io {
                act: "write",
                path: path.to_path_buf(),
                source,
            })?;
            Ok(pair)
        }
        Err(source) => Err(AuthorityError::Io { act: "read", path: path.to_path_buf(), source }),
    }
}

/// Replaces a file so that a reader, or a power cut, sees the old or the new one whole.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        // One left by a process that died with our pid would keep its mode.
        // The error of the write is what is told.
        let _ = std::fs::remove_file(&beside);
        let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The uid that marks what belongs to this cluster, kept in `<data_dir>/cluster-uid`; made at the first call.
///
/// # Errors
/// When the file cannot be read or written.
pub fn cluster_uid(data_dir: &Path) -> Result<String, AuthorityError> {
    let path = data_dir.join("cluster-uid");
    match std::fs::read_to_string(&path) {
        Ok(uid) if !uid.trim().is_empty() => return Ok(uid.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(AuthorityError::Io { act: "read", path, source }),
    }
    let uid = Rng::from_os("cluster").uuid();
    std::fs::create_dir_all(data_dir)
        .and_then(|()| write_file(&path, format!("{uid}\n").as_bytes(), 0o644))
        .map_err(|source| AuthorityError::Io { act: "write", path, source })?;
    Ok(uid)
}

/// Every name under which a client may reach a master on this machine.
#[must_use]
pub fn server_names() -> BTreeSet<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    names(&read("/proc/sys/kernel/hostname"), &read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"))
}

fn names(host: &str, fib_trie: &str, if_inet6: &str) -> BTreeSet<String> {
    let always = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut names: BTreeSet<String> = always.into_iter().map(str::to_owned).collect();
    let host = host.trim().to_ascii_lowercase();
    let fits = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if host.split('.').all(fits) {
        if !host.contains('.') {
            names.insert(format!("{host}.local"));
        }
        names.insert(host);
    }
    // fib_trie: a line `|-- ADDRESS`, and below it `/32 host LOCAL` for what is ours.
    let mut last = None;
    for line in fib_trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<IpAddr>().ok();
        } else if line.trim_start().starts_with("/32 host LOCAL") {
            names.extend(last.map(|address| address.to_string()));
        }
    }
    // if_inet6: 32 hex digits first. Link-local addresses mean nothing without an interface.
    for line in if_inet6.lines() {
        let address = line.split_whitespace().next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
        let address = address.map(std::net::Ipv6Addr::from).filter(|address| !address.is_unicast_link_local());
        names.extend(address.map(|address| address.to_string()));
    }
    names
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::tls::{ClientCertificate, Credentials};

    fn credentials(authority: &Authority, pair: &Pair) -> Credentials {
        Credentials {
            ca: authority.pem().into(),
            chain: std::fs::read(&pair.certificate).unwrap(),
            key: std::fs::read(&pair.key).unwrap(),
        }
    }

    /// A TLS 1.3 handshake over a socket pair; gives what the server knows of the client.
    fn handshake(server: &Credentials, client: &Credentials, name: &str) -> Result<Identity, String> {
        handshake_also(server, client, name, None)
    }

    /// The same, with a client that knows another name of the server.
    fn handshake_also(server: &Credentials, client: &Credentials, name: &str, also: Option<&str>) -> Result<Identity, String> {
        let (server_end, client_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let config = server.server(ClientCertificate::Required).map_err(|error| error.to_string())?;
        let serving = std::thread::spawn(move || {
            let connection = rustls::ServerConnection::new(config).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, server_end);
            let mut byte = [0];
            stream.read_exact(&mut byte).map_err(|error| error.to_string())?;
            let peer = stream.conn.peer_certificates().and_then(<[_]>::first).cloned().ok_or("no certificate")?;
            stream.write_all(&byte).map_err(|error| error.to_string())?;
            identity(&peer).map_err(|error| error.to_string())
        });
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let config: Arc<_> = client.client_also(also).map_err(|error| error.to_string())?;
        let connection = rustls::ClientConnection::new(config, name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, client_end);
        let talked = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0]));
        drop(stream);
        let seen = serving.join().unwrap();
        talked.map_err(|error| error.to_string())?;
        seen
    }

    #[test]
    fn both_ends_of_a_handshake_accept_what_it_signs() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "home").unwrap();
        let server = credentials(&authority, &authority.server(&server_names()).unwrap());
        let node_dir = dir.path().join("shed");
        let cases = [
            (authority.admin().unwrap(), "bramble-admin", vec!["system:masters"]),
            (authority.master().unwrap(), "bramble-master", vec![]),
            (authority.node(&node_dir, "shed").unwrap(), "shed", vec!["bramble:nodes"]),
        ];
        for (pair, common_name, groups) in cases {
            for name in ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"] {
                let seen = handshake(&server, &credentials(&authority, &pair), name).unwrap();
                assert_eq!(
                    (seen.common_name.as_str(), seen.organizations),
                    (common_name, groups.iter().map(|&g| g.to_owned()).collect())
                );
            }
            let mode = std::fs::metadata(&pair.key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let admin = credentials(&authority, &authority.admin().unwrap());
        assert!(handshake(&server, &admin, "elsewhere.example").is_err(), "a name that it does not have");
        assert!(handshake(&admin, &admin, "localhost").is_err(), "a client's certificate serves nothing");
        assert!(handshake(&server, &server, "localhost").is_err(), "a server's certificate is no client's");
    }

    #[test]
    fn a_master_is_known_by_its_clusters_name_at_an_address_that_it_got_later_and_nobody_else_is() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = Authority::open_or_create(one.path(), "home").unwrap();
        let theirs = Authority::open_or_create(two.path(), "home").unwrap();
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let ours_at = names(&["10.0.0.1", "bramble-u1.local"]);
        let server = credentials(&ours, &ours.server(&ours_at).unwrap());
        let node = credentials(&ours, &ours.node(&one.path().join("shed"), "shed").unwrap());
        for (name, also, good) in [
            ("10.0.0.1", Some("bramble-u1.local"), true),
            ("10.0.0.9", Some("bramble-u1.local"), true),
            ("10.0.0.9", None, false),
            ("10.0.0.9", Some("bramble-u2.local"), false),
        ] {
            assert_eq!(handshake_also(&server, &node, name, also).is_ok(), good, "{name} {also:?}");
        }
        let foreign = credentials(&theirs, &theirs.server(&ours_at).unwrap());
        assert!(handshake_also(&foreign, &node, "10.0.0.9", Some("bramble-u1.local")).is_err(), "another CA says so");
    }

    #[test]
    fn another_clusters_certificates_are_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = Authority::open_or_create(one.path(), "home").unwrap();
        let theirs = Authority::open_or_create(two.path(), "home").unwrap();
        let server = credentials(&ours, &ours.server(&server_names()).unwrap());
        let mut stranger = credentials(&theirs, &theirs.admin().unwrap());
        assert!(handshake(&server, &stranger, "localhost").is_err());
        stranger.ca = ours.pem().into();
        assert!(handshake(&server, &stranger, "localhost").is_err());
    }

    #[test]
    fn it_is_made_once_and_signs_again_only_for_new_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let first = Authority::open_or_create(dir.path(), "home").unwrap();
        assert!(first.server(&names(&["localhost", "10.0.0.1"])).unwrap().signed);
        let admin = first.admin().unwrap();
        let again = Authority::open_or_create(dir.path(), "renamed").unwrap();
        assert_eq!(again.pem(), first.pem());
        assert!(!again.server(&names(&["10.0.0.1"])).unwrap().signed, "fewer names are covered");
        assert!(!again.admin().unwrap().signed);
        let key = std::fs::read(dir.path().join("server.key")).unwrap();
        assert!(again.server(&names(&["10.0.0.1", "fd00::7"])).unwrap().signed);
        assert_eq!(std::fs::read(dir.path().join("server.key")).unwrap(), key, "the key stays");
        // What it signs after it was opened again still fits the CA of the first day.
        let server = credentials(&again, &again.server(&names(&["10.0.0.1", "fd00::7"])).unwrap());
        assert!(handshake(&server, &credentials(&first, &admin), "fd00::7").is_ok());
        std::fs::write(dir.path().join("server.crt"), "half a cert").unwrap();
        assert!(again.server(&names(&["10.0.0.1"])).unwrap().signed, "a damaged one is signed anew");
    }

    #[test]
    fn a_ca_without_its_key_is_an_error_and_not_a_new_ca() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path(), "home").unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let told = Authority::open_or_create(dir.path(), "home").unwrap_err();
        assert!(matches!(told, AuthorityError::KeyLost { .. }), "{told}");
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn the_machines_addresses_are_names_of_the_server() {
        let fib = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        let inet6 = "fd000000000000000000000000000005 02 40 00 80 eth0\nfe800000000000000000000000000005 02 40 20 80 eth0\n";
        let found = names("Pi4\n", fib, inet6);
        for name in ["10.1.2.3", "fd00::5", "pi4", "pi4.local", "localhost"] {
            assert!(found.contains(name), "{name} in {found:?}");
        }
        for name in ["10.1.2.255", "0.0.0.0", "fe80::5"] {
            assert!(!found.contains(name), "{name} in {found:?}");
        }
    }

    #[test]
    fn the_uid_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cluster_uid(dir.path()).unwrap(), cluster_uid(dir.path()).unwrap());
    }
}
