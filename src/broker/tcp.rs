//! Sockets: one listener task a door, one task a connection, owned by the listener's `JoinSet`.
//!
//! A connection's task reads packets into the machine and writes what it pulls from it. What is read or to be written at
//! one time is bounded; what is too long is refused when its header is there. It ends when the machine says so, when the
//! peer is gone, or when a chunk could not be written in time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::acl::Client;
use super::machine::{ConnectionId, Input, Pulled};
use super::packet::{ConnAck, Connect, DecodeError, Packet, Properties, Version, connect_version, decode, encode, frame, reason};
use super::run::Shared;
use super::tls::Acceptor;

/// The longest CONNECT, will included: nobody is known yet, so nothing is buffered for them.
const CONNECT_MAX: usize = 64 << 10;
/// Read at one time.
const READ: usize = 4 << 10;
/// Read at one time of a packet that is longer than that.
const READ_LONG: usize = 64 << 10;
/// Pulled from the machine at one time. A chunk of this size, or each such part of a longer one, has the write deadline.
const CHUNK: usize = 32 << 10;
/// A client with so many unread answers is not read any further.
const BACKLOG: usize = 4_096;
/// How long a last word may take, and the peer to hear it.
const FAREWELL: Duration = Duration::from_millis(500);

/// Who comes in where.
#[derive(Clone)]
pub(super) enum Door {
    /// Anybody who reaches it, as a viewer.
    Plain,
    /// Who has a certificate.
    Tls(Acceptor),
}

/// Why a connection ended before the machine knew it.
#[derive(Debug, thiserror::Error)]
enum NoLogin {
    #[error("no CONNECT in time")]
    TooLate,
    #[error("the broker stops")]
    Stopped,
    #[error(transparent)]
    Refused(#[from] super::tls::Refused),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Takes connections until `stop`, then waits for those that it has.
pub(super) async fn listen(listener: TcpListener, door: Door, shared: Arc<Shared>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task died");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) if tasks.len() < shared.max_connections => {
                let (door, shared, stop) = (door.clone(), shared.clone(), stop.clone());
                tasks.spawn(async move {
                    match serve(socket, door, &shared, &stop).await {
                        Ok(()) | Err(NoLogin::Stopped) => {}
                        Err(error) => {
                            shared.with(|broker, _, _| broker.counters_mut().refused_connections += 1);
                            tracing::debug!(%peer, error = %crate::error::Chain(&error), "no login");
                        }
                    }
                });
            }
            Ok((_, peer)) => {
                shared.with(|broker, _, _| broker.counters_mut().refused_connections += 1);
                tracing::warn!(%peer, most = shared.max_connections, "too many connections");
            }
            Err(error) => {
                // Mostly: no file descriptor left. It passes, or a person is needed; a loop without a pause helps nobody.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if timeout(FAREWELL * 3, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::debug!(connections = tasks.len(), "cut off");
        tasks.shutdown().await;
    }
}

/// What must be done in time, and not at all once we stop. Who is let in is told of the stop by the machine.
struct Login<'a> {
    deadline: Instant,
    stop: &'a CancellationToken,
}

impl Login<'_> {
    async fn within<T>(&self, step: impl Future<Output = T>) -> Result<T, NoLogin> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(NoLogin::Stopped),
            done = timeout_at(self.deadline, step) => done.map_err(|_| NoLogin::TooLate),
        }
    }
}

async fn serve(socket: TcpStream, door: Door, shared: &Arc<Shared>, stop: &CancellationToken) -> Result<(), NoLogin> {
    let login = Login { deadline: Instant::now() + shared.login, stop };
    socket.set_nodelay(true)?;
    match door {
        Door::Plain => log_in(socket, Client::Viewer, shared, login).await,
        Door::Tls(acceptor) => {
            let (stream, client) = login.within(acceptor.accept(socket)).await??;
            log_in(stream, client, shared, login).await
        }
    }
}

async fn log_in<S>(mut stream: S, client: Client, shared: &Arc<Shared>, login: Login<'_>) -> Result<(), NoLogin>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = BytesMut::new();
    let first = login.within(first_packet(&mut stream, &mut input)).await?;
    let connect = match first {
        Ok(connect) => connect,
        Err(NoLogin::Decode(error)) => {
            let mut answer = BytesMut::new();
            if error == DecodeError::UnsupportedVersion {
                let (version, reason) = match connect_version(&input) {
                    Some(6..) => (Version::V5, reason::UNSUPPORTED_VERSION),
                    _ => (Version::V311, 1),
                };
                let packet = ConnAck { session_present: false, reason, properties: Properties::default() };
                encode(version, &Packet::ConnAck(packet), &mut answer);
            }
            shared.with(|broker, _, _| broker.counters_mut().malformed += 1);
            // Told or not, it is cut off.
            let _ = timeout(FAREWELL, farewell(stream, answer)).await;
            return Err(error.into());
        }
        Err(other) => return Err(other),
    };
    let version = connect.version;
    let (id, bell) = shared.enter(client, connect);
    let (reader, writer) = tokio::io::split(stream);
    let wire = Wire { id, version, shared, bell, reader, writer, input, output: BytesMut::new(), flushed: true };
    wire.converse().await;
    Ok(())
}

async fn first_packet<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> Result<Box<Connect>, NoLogin> {
    loop {
        // The first byte alone tells whether this is MQTT.
        if input.first().is_some_and(|&first| first != 0x10) {
            return Err(DecodeError::Protocol("the first packet is no CONNECT").into());
        }
        if let Some(length) = frame(input, CONNECT_MAX)?
            && let Some(bytes) = input.get(..length)
        {
            let Packet::Connect(connect) = decode(Version::V5, bytes)? else {
                return Err(DecodeError::Protocol("the first packet is no CONNECT").into());
            };
            input.advance(length);
            return Ok(connect);
        }
        input.reserve(READ);
        if stream.read_buf(input).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

struct Wire<'a, S> {
    id: ConnectionId,
    version: Version,
    shared: &'a Arc<Shared>,
    bell: Arc<Notify>,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    output: BytesMut,
    flushed: bool,
}

impl<S> Drop for Wire<'_, S> {
    /// However the task ends, the machine hears of it.
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<'_, S> {
    async fn converse(mut self) {
        let mut backlog = self.take_packets();
        let mut deadline = Instant::now();
        loop {
            if self.output.is_empty() && self.flushed {
                let (pulled, left) = self.shared.with(|broker, now, _| {
                    let pulled = broker.pull(now.tick, self.id, &mut self.output, CHUNK);
                    (pulled, broker.backlog(self.id))
                });
                backlog = left;
                match pulled {
                    Pulled::End => break,
                    Pulled::More if self.output.is_empty() => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Pulled::More | Pulled::All => {}
                }
                let chunks = u32::try_from(self.output.len() / CHUNK + 1).unwrap_or(u32::MAX);
                deadline = Instant::now() + self.shared.write.saturating_mul(chunks);
            }
            let writing = !(self.output.is_empty() && self.flushed);
            self.input.reserve(READ);
            tokio::select! {
                read = self.reader.read_buf(&mut self.input), if backlog <= BACKLOG => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => backlog = self.take_packets(),
                },
                written = push(&mut self.writer, &mut self.output, &mut self.flushed), if writing => {
                    if written.is_err() {
                        return;
                    }
                }
                () = sleep_until(deadline), if writing => {
                    tracing::warn!(connection = self.id.0, "takes its messages too slowly: closed");
                    self.shared.give(Input::Slow { connection: self.id });
                    return;
                }
                () = self.bell.notified(), if !writing => {}
            }
        }
        let output = std::mem::take(&mut self.output);
        // The connection ends here, whether its last words arrive or not.
        let _ = timeout(FAREWELL, self.last_words(output)).await;
    }

    /// Gives all whole packets to the machine; tells how many answers wait.
    fn take_packets(&mut self) -> usize {
        let connection = self.id;
        let mut backlog = 0;
        loop {
            let packet = match frame(&self.input, self.shared.max_packet) {
                Ok(Some(length)) if length <= self.input.len() => decode(self.version, &self.input.split_to(length)),
                Ok(Some(length)) => {
                    // Room for what is on its way, but no more than what may come at once: it may never come.
                    self.input.reserve((length - self.input.len()).min(READ_LONG));
                    return backlog;
                }
                Ok(None) => {
                    if self.input.is_empty() {
                        self.input = BytesMut::new();
                    }
                    return backlog;
                }
                Err(error) => Err(error),
            };
            match packet {
                Ok(packet) => backlog = self.shared.give(Input::Packet { connection, packet }),
                Err(error) => {
                    tracing::debug!(connection = connection.0, %error, "closed");
                    self.input.clear();
                    return self.shared.give(Input::Broken { connection, error });
                }
            }
        }
    }

    async fn last_words(&mut self, mut words: BytesMut) -> std::io::Result<()> {
        self.writer.write_all_buf(&mut words).await?;
        self.writer.shutdown().await?;
        hear_out(&mut self.reader).await
    }
}

/// One step of writing; safe to drop half way.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, output: &mut BytesMut, flushed: &mut bool) -> std::io::Result<()> {
    if output.is_empty() {
        writer.flush().await?;
        *flushed = true;
        return Ok(());
    }
    *flushed = false;
    if writer.write_buf(output).await? == 0 {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mut words: BytesMut) -> std::io::Result<()> {
    stream.write_all_buf(&mut words).await?;
    stream.shutdown().await?;
    hear_out(&mut stream).await
}

/// Reads to the end: a socket that is closed with unread bytes in it resets the connection, and the peer would never see
/// why.
async fn hear_out<R: AsyncRead + Unpin>(reader: &mut R) -> std::io::Result<()> {
    let mut waste = [0; 4096];
    while reader.read(&mut waste).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::packet::Packet;
    use super::super::{Config, bind};
    use super::*;

    #[tokio::test]
    async fn who_sends_without_reading_its_answers_is_not_read_any_further_and_dropped() {
        let config = Config { write: Duration::from_millis(300), ..Config::new("b/c", "ha") };
        let stop = CancellationToken::new();
        let running = bind(config).await.unwrap().run(Vec::new(), stop.clone(), crate::clock::SystemClock::start());
        let shared = running.handle.0.clone();
        let mut input = BytesMut::new();
        let connect = Connect {
            version: Version::V5,
            clean: true,
            keep_alive: 0,
            client_id: "deaf".to_owned(),
            will: None,
            username: None,
            password: None,
            properties: Properties::default(),
        };
        encode(Version::V5, &Packet::Connect(Box::new(connect)), &mut input);
        (0..50_000).for_each(|_| encode(Version::V5, &Packet::PingReq, &mut input));
        let (mut near, far) = tokio::io::duplex(1024);
        let login = Login { deadline: Instant::now() + Duration::from_secs(5), stop: &stop };
        let (served, written) = tokio::join!(log_in(far, Client::Viewer, &shared, login), near.write_all_buf(&mut input));
        served.unwrap();
        assert!(written.is_err(), "it took everything");
        let taken = 50_000 - input.len() / 2;
        assert!(taken > BACKLOG && taken < BACKLOG + 3 * READ, "{taken} pings were taken");
        assert_eq!((running.handle.counters().slow, running.handle.counters().connections), (1, 0));
    }
}
