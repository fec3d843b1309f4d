//! One request to an API server: over TLS, without a runtime, one connection a call.
//!
//! Never:    decides whom to trust: that is in the configuration it is given. Blocks: call it off an async runtime.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

/// How long a connection, and each piece of an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A thousand nodes are a few MiB.
const LARGEST: u64 = 64 << 20;

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server<'a> {
    /// A name or an address, IPv6 without brackets.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// `GET`, `POST`, ….
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    /// The content type of `body`; unused when that is empty.
    pub content_type: &'a str,
    /// A bearer token.
    pub bearer: Option<&'a str>,
    /// May be empty.
    pub body: &'a [u8],
}

/// Asks; gives status and body.
///
/// # Errors
/// When there is no connection, or it breaks.
pub fn call(tls: &Arc<rustls::ClientConfig>, to: Server<'_>, call: &Call<'_>) -> std::io::Result<(u16, Vec<u8>)> {
    let name = ServerName::try_from(to.host.to_owned()).map_err(|error| std::io::Error::new(ErrorKind::InvalidInput, error))?;
    let mut last = std::io::Error::new(ErrorKind::NotFound, format!("{} has no address", to.host));
    let mut tcp = None;
    for address in (to.host, to.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                tcp = Some(stream);
                break;
            }
            Err(error) => last = error,
        }
    }
    let tcp = tcp.ok_or(last)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let connection = rustls::ClientConnection::new(tls.clone(), name).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, tcp);
    // One write, so one TLS record.
    let host = if to.host.contains(':') { format!("[{}]", to.host) } else { to.host.to_owned() };
    let mut request = format!(
        "{} {} HTTP/1.1\r\nHost: {host}:{}\r\nAccept: application/json\r\nConnection: close\r\n",
        call.method, call.path, to.port
    );
    if let Some(token) = call.bearer {
        request.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if !call.body.is_empty() {
        request.push_str(&format!("Content-Type: {}\r\nContent-Length: {}\r\n", call.content_type, call.body.len()));
    }
    request.push_str("\r\n");
    let request = [request.as_bytes(), call.body].concat();
    stream.write_all(&request)?;
    answer(&mut BufReader::new(stream.take(LARGEST)))
}

/// Status and body of an HTTP/1.1 answer, however its length is told.
fn answer(from: &mut impl BufRead) -> std::io::Result<(u16, Vec<u8>)> {
    let bad = |what: &str| std::io::Error::new(ErrorKind::InvalidData, format!("not an HTTP answer: {what}"));
    let status = line(from)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad(&status))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(from)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { return Err(bad(&header)) };
        match name.trim().to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse::<u64>().map_err(|_| bad(&header))?),
            "transfer-encoding" => chunked = value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(from)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk's size"))?;
            exactly(from, size, &mut body)?;
            // The line that ends a chunk; after the last one, the trailers.
            while !line(from)?.is_empty() {}
            if size == 0 {
                return Ok((status, body));
            }
        }
    }
    match length {
        Some(length) => exactly(from, length, &mut body)?,
        None => {
            from.read_to_end(&mut body)?;
        }
    }
    Ok((status, body))
}

fn exactly(from: &mut impl BufRead, size: u64, body: &mut Vec<u8>) -> std::io::Result<()> {
    let read = from.take(size).read_to_end(body)?;
    if read as u64 == size { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(16 << 10).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whether_counted_chunked_or_closed() {
        let cases: [(&str, Option<(u16, &str)>); 8] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some((200, "ok"))),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\n it\r\n0\r\n\r\n", Some((200, "ok it"))),
            ("HTTP/1.1 503 no\r\n\r\nlater", Some((503, "later"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok", None),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nok", None),
            ("nonsense\r\n\r\n", None),
            ("", None),
        ];
        for (bytes, expected) in cases {
            let read = answer(&mut bytes.as_bytes()).ok();
            assert_eq!(read, expected.map(|(status, body)| (status, body.as_bytes().to_vec())), "{bytes:?}");
        }
    }
}
