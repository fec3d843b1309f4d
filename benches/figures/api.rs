//! A client of the API: one HTTPS connection that is kept, and one that watches.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bramble::tls::Credentials;
use rustls::pki_types::ServerName;
use serde_json::Value;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the API is, and the admin's certificate.
#[derive(Clone)]
pub struct Address {
    socket: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Address {
    /// Reads the admin's certificate from a cluster's folder `pki`.
    pub fn open(pki: &Path, port: u16) -> anyhow::Result<Self> {
        let read = |name: &str| std::fs::read(pki.join(name)).with_context(|| format!("cannot read {name}"));
        let credentials = Credentials { ca: read("ca.crt")?, chain: read("bramble-admin.crt")?, key: read("bramble-admin.key")? };
        Ok(Self { socket: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), tls: credentials.client()? })
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>,
    host: SocketAddr,
}

impl Client {
    /// Connects; the handshake happens with the first request.
    pub fn connect(address: &Address) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect_timeout(&address.socket, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
        let tls = rustls::ClientConnection::new(address.tls.clone(), name)?;
        Ok(Self { stream: BufReader::new(rustls::StreamOwned::new(tls, tcp)), host: address.socket })
    }

    /// GET.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask("GET", path, None)?)?)
    }

    /// POST of an object.
    pub fn post(&mut self, path: &str, object: &Value) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask("POST", path, Some(object))?)?)
    }

    /// DELETE.
    pub fn delete(&mut self, path: &str) -> anyhow::Result<()> {
        self.ask("DELETE", path, None).map(|_| ())
    }

    /// Any request; the body of its answer.
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Vec<u8>> {
        self.send(method, path, body)?;
        let (status, framing) = self.head()?;
        let mut answer = Vec::new();
        match framing {
            Framing::Length(length) => {
                answer.resize(length, 0);
                self.stream.read_exact(&mut answer)?;
            }
            Framing::Chunked => while self.chunk(&mut answer)? {},
        }
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        // One write, so one TLS record.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        Ok(())
    }

    fn head(&mut self) -> anyhow::Result<(u16, Framing)> {
        let status = self.line()?;
        let status =
            status.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("no answer: {status}"))?;
        let mut framing = Framing::Length(0);
        loop {
            let header = self.line()?.to_ascii_lowercase();
            match header.split_once(':') {
                None => return Ok((status, framing)),
                Some(("content-length", length)) => framing = Framing::Length(length.trim().parse()?),
                Some(("transfer-encoding", coding)) if coding.contains("chunked") => framing = Framing::Chunked,
                Some(_) => {}
            }
        }
    }

    /// Appends a chunk; `false` after the last.
    fn chunk(&mut self, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        let size = self.line()?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        (&mut self.stream).take(size as u64).read_to_end(out)?;
        self.line()?;
        Ok(size > 0)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the API closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// What a watch told, and when it came.
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub kind: String,
    /// The object.
    pub object: Value,
    /// When its line was read.
    pub at: Instant,
}

/// Watches from now on; events come through the channel until the API goes away.
pub fn watch(address: &Address, path: &str) -> anyhow::Result<mpsc::Receiver<Event>> {
    let mut client = Client::connect(address)?;
    let list = client.get(path)?;
    let from = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("a list without a version")?;
    client.send("GET", &format!("{path}?watch=true&resourceVersion={from}"), None)?;
    let (status, framing) = client.head()?;
    anyhow::ensure!(status == 200 && matches!(framing, Framing::Chunked), "watching {path}: {status}");
    let (send, events) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = Vec::new();
        while client.chunk(&mut buffer).unwrap_or(false) {
            let at = Instant::now();
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let Ok(Value::Object(mut event)) = serde_json::from_slice(&line) else { return };
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                let object = event.remove("object").unwrap_or_default();
                if send.send(Event { kind, object, at }).is_err() {
                    return;
                }
            }
        }
    });
    Ok(events)
}

/// Waits for an event.
pub fn await_event(events: &mpsc::Receiver<Event>, what: &str, is: impl Fn(&Event) -> bool) -> anyhow::Result<Event> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = events.recv_timeout(left).with_context(|| format!("the watch did not tell: {what}"))?;
        if is(&event) {
            return Ok(event);
        }
    }
}

/// The name of an object.
pub fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}
