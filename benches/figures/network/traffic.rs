//! A small server and its clients: a stream of bytes, a byte there and back, and connections made anew.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::table::quantile;

const PATIENCE: Duration = Duration::from_secs(5);
const BLOCK: usize = 128 << 10;
/// What a connection wants, as its first byte.
const SINK: u8 = b's';
const ECHO: u8 = b'e';

/// Serves until it is killed.
pub fn serve(at: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("ready");
    for connection in listener.incoming().map_while(Result::ok) {
        // Who goes away half way is no error of ours.
        std::thread::spawn(move || answer(connection));
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut first = [0];
    connection.read_exact(&mut first)?;
    let mut buffer = vec![0; BLOCK];
    let mut all = 0_u64;
    if first == [ECHO] {
        connection.write_all(&first)?;
    }
    loop {
        let length = connection.read(&mut buffer)?;
        if length == 0 {
            return if first == [SINK] { connection.write_all(&all.to_be_bytes()) } else { Ok(()) };
        }
        all += length as u64;
        if first == [ECHO] {
            connection.write_all(&buffer[..length])?;
        }
    }
}

fn connect(to: SocketAddr, wants: u8) -> anyhow::Result<TcpStream> {
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(&[wants])?;
    if wants == ECHO {
        connection.read_exact(&mut [0])?;
    }
    Ok(connection)
}

/// Bytes a second for so long, as the server has counted them.
pub fn stream(to: SocketAddr, time: Duration) -> anyhow::Result<Value> {
    let mut connection = connect(to, SINK)?;
    let block = vec![7; BLOCK];
    let begun = Instant::now();
    while begun.elapsed() < time {
        connection.write_all(&block)?;
    }
    connection.shutdown(std::net::Shutdown::Write)?;
    let mut counted = [0; 8];
    connection.read_exact(&mut counted)?;
    let rate = u64::from_be_bytes(counted) as f64 / begun.elapsed().as_secs_f64();
    Ok(json!({"bytes_per_second": rate}))
}

/// A byte there and back over one connection, for so long.
pub fn trips(to: SocketAddr, time: Duration) -> anyhow::Result<Value> {
    let mut connection = connect(to, ECHO)?;
    let mut samples = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let sent = Instant::now();
        connection.write_all(b"x")?;
        connection.read_exact(&mut [0])?;
        samples.push(sent.elapsed());
    }
    Ok(told(&samples))
}

/// Connections, each with a byte there and back, one after the other.
pub fn connections(to: SocketAddr, count: usize) -> anyhow::Result<Value> {
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        connect(to, ECHO)?;
        samples.push(begun.elapsed());
    }
    Ok(told(&samples))
}

/// In nanoseconds.
pub fn told(samples: &[Duration]) -> Value {
    let at = |share| quantile(samples, share).unwrap_or_default().as_nanos() as u64;
    json!({"count": samples.len(), "p50": at(0.5), "p99": at(0.99)})
}
