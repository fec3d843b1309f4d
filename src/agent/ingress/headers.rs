//! What of a request's and an answer's headers is passed on, and what is added.
//!
//! Source:   RFC 9110 §7.6 (hop-by-hop), RFC 9113 §8.2.3 (cookies); what is added is what nginx's ingress adds. What a client says of
//!           itself in `X-Forwarded-…` is not believed, and replaced.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Of one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came<'a> {
    /// From whom.
    pub peer: IpAddr,
    /// Whether it was encrypted.
    pub tls: bool,
    /// To which port.
    pub port: u16,
    /// The host as the client wrote it, port included; may be empty.
    pub host: &'a str,
}

/// To what both ends want to change, such as `websocket`. `None` when they do not.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| wants).cloned()
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes away what is of one connection only.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION).filter_map(|token| token.parse().ok()).collect();
    // A length beside a coding is how requests are smuggled: only the coding counted.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Says that both ends change to something else.
pub(super) fn set_upgrade(headers: &mut HeaderMap, to: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, to);
}

/// Makes of a client's headers those that its backend gets.
pub(super) fn forward(headers: &mut HeaderMap, came: Came<'_>) {
    strip(headers);
    // Answered here already, when the body was asked for.
    headers.remove(header::EXPECT);
    join_cookies(headers);
    let peer = came.peer.to_string();
    let scheme = if came.tls { "https" } else { "http" };
    let port = came.port.to_string();
    for (name, value) in [
        ("x-forwarded-for", peer.as_str()),
        ("x-real-ip", &peer),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-scheme", scheme),
        ("x-scheme", scheme),
        ("x-forwarded-port", &port),
        ("x-forwarded-host", came.host),
    ] {
        set(headers, HeaderName::from_static(name), value);
    }
    headers.remove(header::FORWARDED);
    set(headers, header::HOST, came.host);
}

/// HTTP/2 sends each cookie alone; HTTP/1 has one line.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().count() > 1 {
        let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(one) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(header::COOKIE, one);
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => _ = headers.insert(name, value),
        Err(_) => _ = headers.remove(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pairs =
            lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()));
        let mut map = HeaderMap::new();
        pairs.for_each(|(name, value)| _ = map.append(name, value));
        map
    }

    fn lines(map: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_is_of_one_connection_stays_there() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("accept", "*/*"),
        ]);
        assert_eq!(upgrade(&map), None, "not asked for in `Connection`");
        strip(&mut map);
        assert_eq!(lines(&map), ["accept: */*"]);
        assert_eq!(upgrade(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).unwrap(), "websocket");
    }

    #[test]
    fn a_client_is_not_believed_who_it_is() {
        let mut map = headers(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.2.3.4"),
            ("expect", "100-continue"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        forward(&mut map, Came { peer: "192.168.1.7".parse().unwrap(), tls: false, port: 80, host: "a.com:80" });
        assert_eq!(
            lines(&map),
            [
                "cookie: a=1; b=2",
                "host: a.com:80",
                "x-forwarded-for: 192.168.1.7",
                "x-forwarded-host: a.com:80",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-forwarded-scheme: http",
                "x-real-ip: 192.168.1.7",
                "x-scheme: http",
            ]
        );
    }
}
