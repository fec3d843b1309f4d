//! Pages and datagrams, asked for from anywhere: a host, a pod, or somebody outside.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::inside::{enter, inside};

/// Two retransmissions of a connection's first packet.
const PATIENCE: Duration = Duration::from_millis(3500);

/// A page's body, by a connection of its own, from this thread's network.
pub fn page_here(at: SocketAddr, host: &str, path: &str) -> Result<Vec<u8>, String> {
    let words = |error: std::io::Error| format!("{at}{path}: {error}");
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(words)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(words)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).map_err(words)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map_err(words)?;
    // A script's own end of the head is a bare one.
    let end = |with: &[u8]| all.windows(with.len()).position(|some| some == with).map(|at| at + with.len());
    let end = end(b"\r\n\r\n").into_iter().chain(end(b"\n\n")).min().ok_or_else(|| format!("{at}{path}: no page: {all:?}"))?;
    let body = all.split_off(end);
    let head = String::from_utf8_lossy(&all);
    if head.starts_with("HTTP/1.") && head.contains(" 200 ") { Ok(body) } else { Err(format!("{at}{path}: {head}")) }
}

/// The same from a network namespace.
pub fn page(namespace: &str, at: &str, path: &str) -> Result<String, String> {
    inside(namespace, || page_here(at.parse().unwrap(), at, path)).map(|body| String::from_utf8_lossy(&body).trim().to_owned())
}

/// Whether a connection is let through; for who expects that it is not.
pub fn is_let(namespace: &str, at: &str) -> bool {
    inside(namespace, || TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_millis(900)).is_ok())
}

/// Somebody who asks for a page again and again, each time by a new connection.
pub struct Steady {
    name: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Asked>>,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Asked {
    pub at: Instant,
    pub took: Duration,
    pub seen: Result<String, String>,
}

impl Steady {
    /// In this network namespace, of this address; once in such a while.
    pub fn start(name: &str, namespace: &str, at: &str, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, namespace, at) = (stop.clone(), namespace.to_owned(), at.parse().unwrap());
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let mut all = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                let began = Instant::now();
                let seen = page_here(at, "steady", "/cgi-bin/who").map(|body| String::from_utf8_lossy(&body).trim().to_owned());
                all.push(Asked { at: began, took: began.elapsed(), seen });
                std::thread::sleep(every.saturating_sub(began.elapsed()));
            }
            all
        });
        Self { name: name.to_owned(), stop, thread }
    }

    /// All that was asked.
    pub fn end(self) -> (String, Vec<Asked>) {
        self.stop.store(true, Ordering::Relaxed);
        (self.name, self.thread.join().unwrap())
    }
}
