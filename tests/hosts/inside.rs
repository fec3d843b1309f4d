//! The test itself on a host: threads of its own in a network namespace, with real sockets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The port of every [`Echo`].
pub const PORT: u16 = 7777;

/// Moves this thread into a network namespace, for good: one that has a name, or the one of a file, `/proc/PID/ns/net`.
pub fn enter(namespace: &str) {
    let file = std::fs::File::open(Path::new("/var/run/netns").join(namespace)).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Runs something in a network namespace, to its end.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap()
    })
}

/// Answers UDP with what it got, and takes TCP to its end and answers with the number of bytes.
pub struct Echo {
    stop: Arc<AtomicBool>,
    /// UDP packets that came.
    pub heard: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// In this network namespace, by IPv4 and IPv6.
    pub fn start(namespace: &str) -> Self {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (udp, tcp) = inside(namespace, || (UdpSocket::bind(("::", PORT)).unwrap(), TcpListener::bind(("::", PORT)).unwrap()));
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (stopped, count) = (stop.clone(), heard.clone());
        let answers = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = udp.send_to(&buffer[..length], from);
                }
            }
        });
        let stopped = stop.clone();
        let takes = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                let _ = stream.write_all(&all.len().to_be_bytes());
            }
        });
        Self { stop, heard, threads: vec![answers, takes] }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends packets of this size until one is answered; after how long that was, and whose address the asker had.
pub fn asks(namespace: &str, whom: &str, bytes: usize, most: Duration) -> Option<(Duration, SocketAddr)> {
    asks_at(namespace, SocketAddr::new(whom.parse().unwrap(), PORT), bytes, most)
}

/// The same of any port.
pub fn asks_at(namespace: &str, to: SocketAddr, bytes: usize, most: Duration) -> Option<(Duration, SocketAddr)> {
    inside(namespace, || {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        // Each question on the same socket, so that what the path says of sizes is heard.
        socket.connect(to).ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (began, question) = (Instant::now(), vec![7u8; bytes]);
        let mut answer = vec![0; 65536];
        while began.elapsed() < most {
            // A network that is unreachable says so at once.
            if socket.send(&question).is_err() {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            if socket.recv(&mut answer).is_ok_and(|length| length == bytes) {
                return Some((began.elapsed(), socket.local_addr().unwrap()));
            }
        }
        None
    })
}

/// Sends so many bytes by TCP; after how long they were all there.
pub fn sends(namespace: &str, whom: &str, bytes: usize, most: Duration) -> Option<Duration> {
    sends_to(namespace, SocketAddr::new(whom.parse().unwrap(), PORT), bytes, most)
}

/// The same to any port.
pub fn sends_to(namespace: &str, to: SocketAddr, bytes: usize, most: Duration) -> Option<Duration> {
    inside(namespace, || {
        let began = Instant::now();
        let mut stream = TcpStream::connect_timeout(&to, most).ok()?;
        stream.set_read_timeout(Some(most)).unwrap();
        stream.set_write_timeout(Some(most)).unwrap();
        stream.write_all(&vec![7; bytes]).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut count = [0; 8];
        stream.read_exact(&mut count).ok()?;
        (usize::from_be_bytes(count) == bytes).then(|| began.elapsed())
    })
}
