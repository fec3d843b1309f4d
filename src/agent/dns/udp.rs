//! Hands: questions in packets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::question::Over;
use super::serve::run::{Begun, Server};

/// Questions that wait for others; as many as one who forwards has room for, and as many that wait for the same answers.
const WAITING: usize = 512;
/// No question is larger.
const BYTES: usize = 4096;
/// A socket that fails so often in a row is given up.
const FAILURES: u32 = 100;

/// Answers on this socket until it fails for good.
pub async fn serve(socket: Arc<UdpSocket>, server: Arc<Server>) -> io::Error {
    let mut waiting: JoinSet<()> = JoinSet::new();
    let mut buffer = vec![0; BYTES];
    let mut failures = 0;
    loop {
        let received = tokio::select! { biased;
            Some(_) = waiting.join_next() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            // The kernel tells here of what became of earlier packets, and of interfaces that went.
            Err(error) => {
                failures += 1;
                if failures >= FAILURES {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        failures = 0;
        match server.begin(buffer.get(..length).unwrap_or_default(), from.ip(), Over::Udp) {
            Begun::Nothing => {}
            Begun::Reply(reply) => send(&socket, &reply, from).await,
            Begun::Later(later) => {
                // Whoever is left alone asks again.
                if waiting.len() < WAITING {
                    let (socket, server) = (Arc::clone(&socket), Arc::clone(&server));
                    waiting.spawn(async move { send(&socket, &server.finish(*later).await, from).await });
                }
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    // Whoever does not get it asks again.
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::trace!(%to, %error, "an answer could not be sent");
    }
}
