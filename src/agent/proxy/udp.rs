//! Hands: passes datagrams on, for node ports where there is no nftables. What one client sends from one port is a session.
//!
//! Never:    holds more than `SESSIONS` at once, or one that was silent for `IDLE`; what comes too fast is lost, as UDP may be.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Sessions of one port at a time: a socket, a queue and a buffer each.
const SESSIONS: usize = 512;
/// The kernel's own time for a stream of UDP is longer; here each one costs a socket.
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams of a session on their way to its backend; those beyond are dropped.
const QUEUE: usize = 32;
/// The largest that UDP can carry.
const LARGEST: usize = 65_535;

/// Serves a socket until `stop`.
pub async fn serve(socket: UdpSocket, pick: impl Fn(SocketAddr) -> Option<SocketAddr>, stop: CancellationToken) {
    let socket = Arc::new(socket);
    let mut sessions: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut running: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Some(ended) = running.join_next() => match ended {
                // The client may have a new session already.
                Ok(client) => {
                    if sessions.get(&client).is_some_and(mpsc::Sender::is_closed) {
                        sessions.remove(&client);
                    }
                }
                Err(_) => sessions.retain(|_, session| !session.is_closed()),
            },
            received = socket.recv_from(&mut buffer) => {
                // Errors here are answers to what was sent before: nothing to do about them.
                let Ok((length, client)) = received else { continue };
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                if sessions.get(&client).is_none_or(mpsc::Sender::is_closed) {
                    let Some(to) = pick(client).filter(|_| sessions.len() < SESSIONS) else { continue };
                    let (session, datagrams) = mpsc::channel(QUEUE);
                    sessions.insert(client, session);
                    let socket = socket.clone();
                    running.spawn(async move {
                        if let Err(error) = pass(&socket, client, to, datagrams).await {
                            tracing::debug!(%client, %to, %error, "a relayed session ended");
                        }
                        client
                    });
                }
                if let Some(session) = sessions.get(&client) {
                    // What comes too fast is lost, as UDP may be.
                    let _ = session.try_send(datagram);
                }
            }
        }
    }
    running.shutdown().await;
}

async fn pass(socket: &UdpSocket, client: SocketAddr, to: SocketAddr, mut datagrams: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let backend = UdpSocket::bind((any, 0)).await?;
    backend.connect(to).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => backend.send(&datagram).await?,
                None => return Ok(()),
            },
            length = backend.recv(&mut buffer) => socket.send_to(buffer.get(..length?).unwrap_or_default(), client).await?,
            () = tokio::time::sleep(IDLE) => return Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_client_has_its_answers() {
        let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = backend.local_addr().unwrap();
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = relay.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(relay, move |_| Some(to), stop.clone()));
        let answers = tokio::spawn(async move {
            let mut buffer = [0; 100];
            loop {
                let (length, from) = backend.recv_from(&mut buffer).await.unwrap();
                backend.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        let clients = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
        for round in 0..3u8 {
            for (number, client) in (0u8..).zip(&clients) {
                client.send_to(&[number, round], at).await.unwrap();
            }
            for (number, client) in (0u8..).zip(&clients) {
                let mut heard = [0; 10];
                assert_eq!(client.recv(&mut heard).await.unwrap(), 2);
                assert_eq!(heard[..2], [number, round]);
            }
        }
        stop.cancel();
        served.await.unwrap();
        answers.abort();
    }
}
