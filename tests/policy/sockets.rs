//! Sockets in a network namespace: who answers, and whether somebody is reached.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What is dropped is waited for so long; what passes takes less than a millisecond.
pub const WAIT: Duration = Duration::from_millis(400);

/// Takes the calling thread, and those that it makes, into a network namespace by its name.
pub fn enter(namespace: &str) {
    let file = std::fs::File::open(format!("/var/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root");
}

/// Does something in a network namespace.
pub fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            act()
        });
        thread.join().unwrap()
    })
}

/// Answers on ports, until it is dropped: TCP with the caller's address, and then an echo; UDP with an echo.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Datagrams that came.
    pub datagrams: Arc<AtomicU64>,
}

impl Server {
    /// In a namespace, on these ports in both protocols and both families of addresses.
    pub fn start(namespace: &str, ports: &[u16]) -> Self {
        let mut server = Self { stop: Arc::default(), threads: Vec::new(), datagrams: Arc::default() };
        for &port in ports {
            let (tcp, udp) = inside(namespace, || {
                let here = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                (TcpListener::bind(here).unwrap(), UdpSocket::bind(here).unwrap())
            });
            tcp.set_nonblocking(true).unwrap();
            udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let stop = server.stop.clone();
            server.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        Ok((stream, from)) => drop(std::thread::spawn(move || talk(stream, from))),
                        Err(_) => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            }));
            let (stop, count) = (server.stop.clone(), server.datagrams.clone());
            server.threads.push(std::thread::spawn(move || {
                let mut bytes = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = udp.recv_from(&mut bytes) {
                        count.fetch_add(1, Ordering::Relaxed);
                        let _ = udp.send_to(&bytes[..length], from);
                    }
                }
            }));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn talk(mut stream: TcpStream, from: SocketAddr) {
    let _ = stream.set_nonblocking(false);
    if stream.write_all(format!("{}\n", from.ip().to_canonical()).as_bytes()).is_err() {
        return;
    }
    let mut bytes = [0; 2048];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

/// A connection from a namespace, and as whom the other side sees it; `None`: nobody was reached.
pub fn connect(from: &str, to: impl Into<SocketAddr>) -> Option<(TcpStream, IpAddr)> {
    let to = to.into();
    inside(from, || {
        let mut stream = TcpStream::connect_timeout(&to, WAIT).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut seen = String::new();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && byte != *b"\n" {
            seen.push(byte[0].into());
        }
        Some((stream, seen.parse().ok()?))
    })
}

/// Whether a TCP connection comes about.
pub fn tcp(from: &str, to: impl Into<SocketAddr>) -> bool {
    connect(from, to).is_some()
}

/// Whether a datagram is answered.
pub fn udp(from: &str, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    inside(from, || {
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket.send_to(b"hello", to).is_ok() && socket.recv_from(&mut [0; 16]).is_ok()
    })
}

/// Whether both sides of a connection still hear each other.
pub fn alive(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut bytes).is_ok() && &bytes == b"ping"
}
