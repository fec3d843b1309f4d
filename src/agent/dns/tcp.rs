//! Hands: questions on connections, each with its length before it (RFC 7766).
//!
//! Bounded: connections in all and of one address, questions under way on one, and how long one says nothing.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::question::Over;
use super::serve::run::{Begun, Server};

/// Connections.
const MOST: usize = 128;
/// Of one address.
const OF_ONE: usize = 32;
/// Questions under way on one connection; the next are read when one of these is answered.
const PIPELINED: usize = 16;
/// A connection that is silent so long, or takes nothing for so long, is closed. Source: RFC 7766 §6.2.3, some seconds.
const IDLE: Duration = Duration::from_secs(10);
/// No question is larger.
const BYTES: usize = 4096;

/// Takes connections until the listener fails for good.
pub async fn serve(listener: TcpListener, server: Arc<Server>) -> io::Error {
    let mut connections: JoinSet<IpAddr> = JoinSet::new();
    let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
    let mut failures = 0;
    loop {
        let accepted = tokio::select! { biased;
            Some(ended) = connections.join_next() => {
                match ended {
                    Ok(address) => leave(&mut of_address, address),
                    // Whose it was is not known any more; all are counted anew.
                    Err(error) => {
                        tracing::error!(%error, "a connection of the name server died");
                        of_address.clear();
                    }
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                failures = 0;
                let of_one = of_address.entry(from.ip()).or_default();
                if connections.len() >= MOST || *of_one >= OF_ONE {
                    continue;
                }
                *of_one += 1;
                let (server, address) = (Arc::clone(&server), from.ip());
                connections.spawn(async move {
                    if let Err(error) = converse(stream, address, &server).await {
                        tracing::trace!(%address, %error, "a connection of the name server ended");
                    }
                    address
                });
            }
            Err(error) => {
                failures += 1;
                if failures >= 100 {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn leave(of_address: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(count) = of_address.get_mut(&address) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            of_address.remove(&address);
        }
    }
}

async fn converse(stream: TcpStream, from: IpAddr, server: &Arc<Server>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut waiting: JoinSet<Vec<u8>> = JoinSet::new();
    let mut read: Vec<u8> = Vec::new();
    let mut open = true;
    loop {
        // What has come whole is answered first; replies may overtake each other (RFC 7766 §7).
        while waiting.len() < PIPELINED
            && let Some(question) = whole(&mut read)?
        {
            match server.begin(&question, from, Over::Tcp) {
                Begun::Nothing => return Ok(()),
                Begun::Reply(reply) => send(&mut writer, &reply).await?,
                Begun::Later(later) => {
                    let server = Arc::clone(server);
                    waiting.spawn(async move { server.finish(*later).await });
                }
            }
        }
        if !open && waiting.is_empty() {
            return Ok(());
        }
        let idle = waiting.is_empty();
        tokio::select! { biased;
            Some(reply) = waiting.join_next() => send(&mut writer, &reply.map_err(io::Error::other)?).await?,
            got = timeout(IDLE, reader.read_buf(&mut read)), if open && waiting.len() < PIPELINED => match got {
                Ok(Ok(0)) => open = false,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) if idle => return Ok(()),
                Err(_) => {}
            },
        }
    }
}

/// A question that has come whole, taken out.
fn whole(read: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(&[high, low]) = read.first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if read.len() < 2 + length {
        return Ok(None);
    }
    let rest = read.split_off(2 + length);
    let question = std::mem::replace(read, rest).split_off(2);
    Ok(Some(question))
}

async fn send(writer: &mut (impl tokio::io::AsyncWrite + Unpin), reply: &[u8]) -> io::Result<()> {
    let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
    let frame = [&length.to_be_bytes(), reply].concat();
    timeout(IDLE, writer.write_all(&frame)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_taken_out_one_by_one() {
        let mut read = vec![0, 3, 1, 2, 3, 0, 1, 9, 0];
        assert_eq!(whole(&mut read).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(whole(&mut read).unwrap(), Some(vec![9]));
        assert_eq!(whole(&mut read).unwrap(), None);
        read.push(0);
        assert_eq!(whole(&mut read).unwrap(), Some(vec![]));
        assert!(whole(&mut vec![0xff, 0xff]).is_err());
    }
}
