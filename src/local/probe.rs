//! Asks the API whether it and its nodes are ready: one GET a connection, over TLS, without a runtime.
//!
//! Never:    trusts anything but the cluster's own CA.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::https;
use crate::tls::{Credentials, TlsError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file with a certificate cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// An answer other than 200.
    #[error("it answered {status}: {body}")]
    Status {
        /// The code.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// Not JSON of the shape that a list has.
    #[error("its answer makes no sense")]
    Json(#[from] serde_json::Error),
}

/// A node as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReady {
    /// Its name.
    pub name: String,
    /// Its condition Ready.
    pub ready: bool,
}

/// The API of the local cluster, seen as the admin.
pub struct Api {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Api {
    /// Reads the admin's certificate from `pki`.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn open(pki: &Path, port: u16) -> Result<Self, ProbeError> {
        let read = |name: &str| {
            let path = pki.join(name);
            std::fs::read(&path).map_err(|source| ProbeError::File { path: path.display().to_string(), source })
        };
        let credentials = Credentials { ca: read("ca.crt")?, chain: read("bramble-admin.crt")?, key: read("bramble-admin.key")? };
        Ok(Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), tls: credentials.client()? })
    }

    /// Whether it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn ready(&self) -> Result<(), ProbeError> {
        self.get("/readyz").map(|_| ())
    }

    /// Every node.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn nodes(&self) -> Result<Vec<NodeReady>, ProbeError> {
        Ok(nodes(&serde_json::from_slice(&self.get("/api/v1/nodes")?)?))
    }

    fn get(&self, path: &str) -> Result<Vec<u8>, ProbeError> {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        let to = https::Server { host: &host, port };
        let (status, body) = https::call(&self.tls, to, &https::Call { method: "GET", path, ..https::Call::default() })?;
        if status != 200 {
            let body = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(ProbeError::Status { status, body });
        }
        Ok(body)
    }
}

fn nodes(list: &serde_json::Value) -> Vec<NodeReady> {
    let items = list.get("items").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|node| {
            let name = node.pointer("/metadata/name")?.as_str()?.to_owned();
            let conditions = node.pointer("/status/conditions").and_then(serde_json::Value::as_array);
            let is =
                |condition: &serde_json::Value, key, value| condition.get(key).and_then(serde_json::Value::as_str) == Some(value);
            let ready = conditions.is_some_and(|all| all.iter().any(|one| is(one, "type", "Ready") && is(one, "status", "True")));
            Some(NodeReady { name, ready })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_node_is_ready_when_its_condition_says_so() {
        let list = serde_json::json!({"items": [
            {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "b"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            {"metadata": {"name": "c"}},
            {"metadata": {}},
        ]});
        let told: Vec<_> = nodes(&list).into_iter().map(|node| (node.name, node.ready)).collect();
        assert_eq!(told, [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), false)]);
        assert!(nodes(&serde_json::json!([])).is_empty());
    }

    #[test]
    fn it_asks_over_tls_as_the_admin_and_trusts_only_the_cluster() {
        use crate::master::authority::{Authority, server_names};
        use crate::tls::ClientCertificate;
        let (home, strange) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority::open_or_create(home.path(), "c").unwrap();
        authority.admin().unwrap();
        let pair = authority.server(&server_names()).unwrap();
        let server = Credentials {
            ca: authority.pem().into(),
            chain: std::fs::read(pair.certificate).unwrap(),
            key: std::fs::read(pair.key).unwrap(),
        };
        let config = server.server(ClientCertificate::Required).unwrap();
        let serving = std::thread::spawn(move || {
            for _ in 0..2 {
                let (tcp, _) = listener.accept().unwrap();
                let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), tcp);
                let mut request = [0; 512];
                let Ok(length) = stream.read(&mut request) else { continue };
                assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        Api::open(home.path(), port).unwrap().ready().unwrap();
        Authority::open_or_create(strange.path(), "c").unwrap().admin().unwrap();
        assert!(Api::open(strange.path(), port).unwrap().ready().is_err());
        serving.join().unwrap();
    }
}
