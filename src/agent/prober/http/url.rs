//! As much of an address as probes need: where to connect, what to ask for, and where a redirect leads.

use std::fmt;

use hyper::Uri;

use crate::agent::prober::tcp;

/// Where a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// An IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, fit for a request line.
    pub(super) path: String,
}

impl Url {
    /// `host:port`; without the port where it is the usual one.
    pub(super) fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let whole = tcp::authority(&self.host, self.port);
        if self.port == usual { whole.strip_suffix(&format!(":{usual}")).unwrap_or(&whole).to_owned() } else { whole }
    }

    /// Where `location` leads from here (RFC 3986, 5.2; without dot segments). `None`: it cannot be read.
    pub(super) fn join(&self, location: &str) -> Option<Url> {
        let location = escaped(location);
        let scheme = if self.tls { "https:" } else { "http:" };
        if let Some(rest) = location.strip_prefix("//") {
            return Self::absolute(&format!("{scheme}//{rest}"));
        }
        if location.starts_with('/') {
            return Some(Self { path: location, ..self.clone() });
        }
        if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
            return Self::absolute(&location);
        }
        let here = self.path.split('?').next().unwrap_or_default();
        let folder = here.rfind('/').map_or("/", |end| here.get(..=end).unwrap_or("/"));
        let base = if location.starts_with('?') { here } else { folder };
        Some(Self { path: format!("{base}{location}"), ..self.clone() })
    }

    fn absolute(text: &str) -> Option<Url> {
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Some(Self { tls, host, port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", tcp::authority(&self.host, self.port), self.path)
    }
}

/// What may not stand in a request line is written as `%XX`; what follows a `#` is for browsers.
pub(super) fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.split('#').next().unwrap_or_default().bytes() {
        if byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let here = Url { tls: false, host: "10.0.0.7".into(), port: 8080, path: "/a/b?c=d".into() };
        for (location, there) in [
            ("/x?y", Some("http://10.0.0.7:8080/x?y")),
            ("x", Some("http://10.0.0.7:8080/a/x")),
            ("?z", Some("http://10.0.0.7:8080/a/b?z")),
            ("https://10.0.0.7/ok", Some("https://10.0.0.7:443/ok")),
            ("//other:81", Some("http://other:81/")),
            ("http://[fd00::1]:9/", Some("http://[fd00::1]:9/")),
            ("ftp://other/", None),
            ("http:///", None),
        ] {
            assert_eq!(here.join(location).map(|url| url.to_string()).as_deref(), there, "{location}");
        }
        assert_eq!(here.authority(), "10.0.0.7:8080");
        assert_eq!(Url { port: 80, ..here.clone() }.authority(), "10.0.0.7");
        assert_eq!(Url { tls: true, port: 443, host: "fd00::1".into(), ..here }.authority(), "[fd00::1]");
    }

    #[test]
    fn paths_become_fit_for_a_request_line() {
        assert_eq!(escaped("/a b/ü?c=\"#top"), "/a%20b/%C3%BC?c=%22");
    }
}
