//! Hands: passes connections on, for the API that listens on loopback, and for node ports where there is no nftables.
//!
//! In:       a listener, and who is asked for each connection where it goes.
//! Out:      bytes both ways, until both sides have said that they are done; a side that only stops sending is told on.
//! Never:    holds more than `CONNECTIONS` at once: who comes then waits in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections of one port at a time: two sockets and two buffers of 8 KiB each, so at most some 8 MB.
const CONNECTIONS: usize = 512;
/// No backend in a cluster takes longer to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// After accepting failed, as with too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves a listener until `stop`; then its connections are cut.
pub async fn serve(listener: TcpListener, pick: impl Fn(SocketAddr) -> Option<SocketAddr>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accept => match (permit, accepted) {
                (Ok(permit), Ok((client, from))) => {
                    // With nobody to serve it, it is closed at once.
                    if let Some(to) = pick(from) {
                        connections.spawn(async move {
                            let _permit = permit;
                            if let Err(error) = pass(client, to).await {
                                tracing::debug!(%from, %to, %error, "a relayed connection ended");
                            }
                        });
                    }
                }
                (_, Err(error)) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
                // The semaphore is never closed.
                (Err(_), _) => break,
            },
        }
    }
    connections.shutdown().await;
}

async fn pass(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut backend = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    // What is small may come late then; it comes.
    let _ = (client.set_nodelay(true), backend.set_nodelay(true));
    tokio::io::copy_bidirectional(&mut client, &mut backend).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_side_that_has_said_all_still_hears_the_answer() {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = backend.local_addr().unwrap();
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = relay.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(relay, move |_| Some(to), stop.clone()));
        let answers = tokio::spawn(async move {
            let (mut connection, _) = backend.accept().await.unwrap();
            let mut heard = Vec::new();
            connection.read_to_end(&mut heard).await.unwrap();
            heard.reverse();
            connection.write_all(&heard).await.unwrap();
        });
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"abc").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "cba");
        answers.await.unwrap();
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_to_serve_is_an_end_and_a_stop_cuts() {
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = relay.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(relay, |_| None, stop.clone()));
        let mut client = TcpStream::connect(at).await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
        stop.cancel();
        served.await.unwrap();
        assert!(TcpStream::connect(at).await.is_err());
    }
}
