//! Hands: asks by opening a connection, and opens those that HTTP and gRPC need.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Sign;

/// Asks once.
pub(super) async fn ask(hosts: &[String], port: u16, timeout: Duration) -> Sign {
    match tokio::time::timeout(timeout, connect(hosts, port)).await {
        Ok(Ok(_)) => Sign::Good,
        Ok(Err(text)) => Sign::Bad(text),
        Err(_) => Sign::Bad(format!("dial tcp {}: i/o timeout", authority(hosts.first().map_or("", String::as_str), port))),
    }
}

/// A connection to the first that takes it; else why the first does not.
pub(super) async fn connect(hosts: &[String], port: u16) -> Result<TcpStream, String> {
    let mut first = None;
    for host in hosts {
        match TcpStream::connect((host.as_str(), port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                first.get_or_insert_with(|| format!("dial tcp {}: {}", authority(host, port), words(&error)));
            }
        }
    }
    Err(first.unwrap_or_else(|| "the pod has no address".to_owned()))
}

/// As `kubectl describe` shows it elsewhere.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
