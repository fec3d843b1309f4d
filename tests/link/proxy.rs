//! A cable that can be pulled: a TCP proxy between one node and its broker.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Shared {
    sockets: Mutex<Vec<TcpStream>>,
    /// New connections are closed at once.
    refuses: AtomicBool,
    /// Nothing passes, and nothing is closed: as behind a switch that lost its power.
    holds: AtomicBool,
    ends: AtomicBool,
    connections: AtomicUsize,
    /// Those that stand.
    living: AtomicUsize,
    cuts: AtomicUsize,
}

/// The proxy; it ends when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    pub port: u16,
}

impl Proxy {
    /// In front of the broker on this port of loopback.
    pub fn before(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ends.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                if accepting.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], broker))) else { continue };
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                accepting.living.fetch_add(1, Ordering::SeqCst);
                let ends = [client, server];
                accepting.sockets.lock().unwrap().extend(ends.iter().map(|end| end.try_clone().unwrap()));
                let [client, server] = ends;
                let (shared, from, to) = (accepting.clone(), server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || carry(&shared, from, to));
                let shared = accepting.clone();
                std::thread::spawn(move || {
                    carry(&shared, client, server);
                    shared.living.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { shared, port }
    }

    /// How often somebody came through.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many standing connections were cut.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// So that there is something to cut.
    fn wait_for_connection(&self) {
        for _ in 0..1000 {
            if self.shared.living.load(Ordering::SeqCst) > 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nobody came through the proxy within 20 s");
    }

    /// Cuts what is connected; who comes again may.
    pub fn cut(&self) {
        self.wait_for_connection();
        self.sever();
    }

    fn sever(&self) {
        self.shared.cuts.fetch_add(self.shared.living.load(Ordering::SeqCst), Ordering::SeqCst);
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Cuts, and lets nobody in for a while.
    pub fn cut_for(&self, time: Duration) {
        self.wait_for_connection();
        self.shared.refuses.store(true, Ordering::SeqCst);
        self.sever();
        std::thread::sleep(time);
        self.shared.refuses.store(false, Ordering::SeqCst);
    }

    /// Nothing passes for a while, both ends waiting; then what was connected is cut.
    pub fn stall_for(&self, time: Duration) {
        self.wait_for_connection();
        self.shared.holds.store(true, Ordering::SeqCst);
        std::thread::sleep(time);
        self.sever();
        self.shared.holds.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.sever();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn carry(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        while shared.holds.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
