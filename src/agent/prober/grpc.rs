//! Hands: asks gRPC's health service, version 1; SERVING is good.
//!
//! One call over HTTP/2 in plain text, by `h2` itself: the two messages have one field each, and a gRPC crate with its
//! protobuf would be larger than this whole node's prober.
//! Source:   grpc.health.v1.Health/Check; the kubelet's probe/grpc.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client;
use hyper::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Version};

use super::{Sign, http, tcp};
use crate::error::Chain;

/// gRPC's code for a method that is not there.
const UNIMPLEMENTED: u32 = 12;
/// An answer has a few bytes.
const ANSWER_LIMIT: usize = 1024;

/// Asks once.
pub(super) async fn ask(addresses: &[String], port: u16, service: &str, timeout: Duration) -> Sign {
    let place = tcp::authority(addresses.first().map_or("", String::as_str), port);
    match tokio::time::timeout(timeout, call(addresses, port, service)).await {
        Ok(Ok(1)) => Sign::Good,
        Ok(Ok(status)) => Sign::Bad(format!("service unhealthy (responded with \"{}\")", name(status))),
        Ok(Err(text)) => Sign::Bad(text),
        Err(_) => Sign::Bad(format!(
            "timeout: failed to connect service {place:?} within {}s: context deadline exceeded",
            timeout.as_secs()
        )),
    }
}

/// Source: the values of HealthCheckResponse.ServingStatus.
fn name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

/// The status that the service has.
async fn call(addresses: &[String], port: u16, service: &str) -> Result<u64, String> {
    let place = tcp::authority(addresses.first().map_or("", String::as_str), port);
    let failed = |error: &h2::Error| format!("error: health rpc probe failed: {}", Chain(error));
    let stream = tcp::connect(addresses, port).await.map_err(|text| format!("error: health rpc probe failed: {text}"))?;
    let (sender, connection) = client::handshake(stream).await.map_err(|error| failed(&error))?;
    let exchange = async {
        let mut sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(request(&place), false)?;
        body.send_data(question(service), true)?;
        let mut response = response.await?;
        let mut answer = BytesMut::new();
        while let Some(part) = response.body_mut().data().await {
            let part = part?;
            response.body_mut().flow_control().release_capacity(part.len())?;
            if answer.len() < ANSWER_LIMIT {
                answer.extend_from_slice(&part);
            }
        }
        // An answer without a body has its status in its head.
        let trailers = response.body_mut().trailers().await?.unwrap_or_else(|| response.headers().clone());
        Ok::<_, h2::Error>((answer.freeze(), trailers))
    };
    let (answer, trailers) = tokio::select! { biased;
        done = exchange => done.map_err(|error| failed(&error))?,
        ended = connection => {
            let why = ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| Chain(&error).to_string());
            return Err(format!("error: health rpc probe failed: {why}"));
        }
    };
    let text = |key: &str| trailers.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status").parse() {
        Ok(0) => status(&answer).ok_or_else(|| "error: health rpc probe failed: the answer cannot be read".to_owned()),
        Ok(UNIMPLEMENTED) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            text("grpc-message")
        )),
        Ok(code) => Err(format!("error: health rpc probe failed: code = {code} desc = {}", text("grpc-message"))),
        Err(_) => Err("error: health rpc probe failed: this is no gRPC server".to_owned()),
    }
}

fn request(place: &str) -> Request<()> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(http::AGENT));
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("http://{place}/grpc.health.v1.Health/Check").parse().unwrap_or_default();
    *request.headers_mut() = headers;
    request
}

/// HealthCheckRequest { service = 1 } with gRPC's prefix: not compressed, four bytes of length.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &message].concat().into()
}

/// HealthCheckResponse { status = 1 }; a message without the field says UNKNOWN.
fn status(answer: &[u8]) -> Option<u64> {
    let (head, message) = answer.split_at_checked(5)?;
    match (head.first()?, message) {
        (0, []) => Some(0),
        (0, [0x08, value]) if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("lamp")[..], [0, 0, 0, 0, 6, 0x0a, 4, b'l', b'a', b'm', b'p']);
        assert_eq!(question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
        for (answer, read) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0], None),
            (&[0, 0, 0, 0, 3, 8, 0x80, 1], None),
        ] {
            assert_eq!(status(answer), read, "{answer:?}");
        }
    }
}
