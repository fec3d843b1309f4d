//! The two brokers under test, and certificates for both.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bramble::broker::{Config, Handle, bind};
use bramble::clock::SystemClock;
use bramble::link::bus::{Bus, BusEvent};
use bramble::tls::Credentials;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const BASE: &str = "bramble/test";
pub const MOSQUITTO: &str = "/usr/sbin/mosquitto";

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Whether the person who runs the tests left Mosquitto and its tools out.
pub fn skipped() -> bool {
    let skip = std::env::var("BRAMBLE_SKIP").is_ok_and(|skip| skip.split(',').any(|part| part.trim() == "mosquitto"));
    if skip {
        println!("skipped: mosquitto (BRAMBLE_SKIP)");
    }
    skip
}

/// A cluster's CA.
pub struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn credentials(&self, common_name: &str, organization: Option<&str>) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        let chain = params.signed_by(&key, &self.0).unwrap();
        let ca = self.0.as_ref().pem().into_bytes();
        Credentials { ca, chain: chain.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
    }
}

/// Ours.
pub struct Ours {
    pub pki: Pki,
    pub tls: SocketAddr,
    pub plain: SocketAddr,
    pub bus: Arc<dyn Bus>,
    pub events: mpsc::Receiver<BusEvent>,
    pub handle: Handle,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Ours {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let pki = Pki::new();
        let mut config = Config::new(BASE, "homeassistant");
        config.plain = Some(loopback());
        config.tls = Some((loopback(), pki.credentials("localhost", None)));
        change(&mut config);
        let bound = bind(config).await.unwrap();
        let (plain, tls) = (bound.plain().unwrap(), bound.tls().unwrap());
        let stop = CancellationToken::new();
        let filters = vec![format!("{BASE}/nodes/+/availability"), format!("{BASE}/nodes/+/up/#")];
        let running = bound.run(filters, stop.clone(), SystemClock::start());
        let task = tokio::spawn(running.task);
        Self { pki, tls, plain, bus: running.bus, events: running.events, handle: running.handle, stop, task }
    }
}

/// Debian's Mosquitto, with what `mqtt.broker` asks of an external one. Killed when dropped.
pub struct Mosquitto {
    child: Child,
    _directory: tempfile::TempDir,
    pub pki: Pki,
    pub tls: SocketAddr,
}

impl Mosquitto {
    /// Nothing when the person who runs the tests said so.
    pub fn start() -> Option<Self> {
        if skipped() {
            return None;
        }
        assert!(
            std::path::Path::new(MOSQUITTO).exists(),
            "{MOSQUITTO} is missing: install the package `mosquitto`, or leave it out with BRAMBLE_SKIP=mosquitto"
        );
        let pki = Pki::new();
        let directory = tempfile::tempdir().unwrap();
        let server = pki.credentials("localhost", None);
        for (name, bytes) in [("ca.pem", &server.ca), ("server.pem", &server.chain), ("server.key", &server.key)] {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let path = directory.path().display();
        // Somebody may take the free port before Mosquitto does.
        for _ in 0..5 {
            let tls = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
            let config = format!(
                "listener {} 127.0.0.1\ncafile {path}/ca.pem\ncertfile {path}/server.pem\nkeyfile {path}/server.key\n\
                 require_certificate true\nallow_anonymous true\nuser root\npersistence false\n\
                 max_queued_messages 100000\nmax_inflight_messages 100\nmax_packet_size 1048576\nset_tcp_nodelay true\n",
                tls.port()
            );
            std::fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
            let mut child = Command::new(MOSQUITTO)
                .arg("-c")
                .arg(directory.path().join("mosquitto.conf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            for _ in 0..2000 {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if std::net::TcpStream::connect(tls).is_ok() {
                    return Some(Self { child, _directory: directory, pki, tls });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("mosquitto did not start");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
