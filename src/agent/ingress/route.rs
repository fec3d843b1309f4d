//! Which ingress a request is for.
//!
//! In:       ingresses; then a host and a path.
//! Out:      a [`Route`]: what the ingress says of it, and where it goes.
//! Source:   Kubernetes' page "Ingress" (path types, multiple matches, hostname wildcards, default backend). Where it is silent: a host that
//!           is named more exactly is asked first, and the next one only when none of its paths fits, as Gateway API has it; of two
//!           ingresses that say the same the older counts. `ImplementationSpecific` is `Prefix`.
//! Never:    looks at what is behind a backend (`backends.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::backends::Upstream;
use crate::api::Object;
use crate::api::networking::ingress::{Backend, Ingress};

/// How long a backend may take to begin its answer. Source: nginx's `proxy_read_timeout`.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that an annotation makes of it.
const MOST_PATIENCE: u64 = 86_400;
/// Whose annotations are read, ours first. Manifests from the web have nginx's.
const PREFIXES: [&str; 2] = ["bramble/", "nginx.ingress.kubernetes.io/"];

/// What an ingress says of all its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// `namespace/name`.
    pub name: String,
    /// Hosts for which it has a certificate; `""` for all.
    tls: Vec<String>,
    /// Whether who comes without TLS is sent to come with it, where there is a certificate.
    redirect: bool,
    /// The same, certificate or not.
    force_redirect: bool,
    /// How long a backend may take to begin its answer.
    pub patience: Duration,
}

impl Settings {
    fn of(name: &str, object: &Object) -> Self {
        let said = |key: &str| PREFIXES.iter().find_map(|prefix| object.annotation(&format!("{prefix}{key}")));
        let seconds = said("proxy-read-timeout").and_then(|text| text.parse().ok());
        let mut tls = Vec::new();
        for entry in Ingress(object).tls() {
            let before = tls.len();
            tls.extend(entry.hosts().map(str::to_ascii_lowercase));
            if tls.len() == before {
                tls.push(String::new());
            }
        }
        Self {
            name: name.to_owned(),
            tls,
            redirect: said("ssl-redirect") != Some("false"),
            force_redirect: said("force-ssl-redirect") == Some("true"),
            patience: seconds.filter(|seconds| (1..=MOST_PATIENCE).contains(seconds)).map_or(PATIENCE, Duration::from_secs),
        }
    }

    /// Whether a request for this host that came without TLS is to come again with it.
    pub fn redirects(&self, host: &str) -> bool {
        let fits =
            |one: &String| one.is_empty() || one == host || one.strip_prefix('*').is_some_and(|rest| rest == beyond_first(host));
        self.force_redirect || (self.redirect && self.tls.iter().any(fits))
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// By whose word.
    pub ingress: Arc<Settings>,
    /// To whom.
    pub upstream: Arc<Upstream>,
}

/// All routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    exact: BTreeMap<String, Host>,
    /// By what follows the star: `.example.com`.
    wildcard: BTreeMap<String, Host>,
    any: Host,
    /// Of an ingress without rules, or else of the oldest that has one.
    fallback: Option<Route>,
}

#[derive(Debug, Default)]
struct Host {
    /// The longest first, of the same length the exact one, then the oldest.
    paths: Vec<Path>,
    /// For what fits none of them.
    default: Option<Route>,
}

#[derive(Debug)]
struct Path {
    exact: bool,
    /// Without a slash at its end, unless it is exact.
    path: String,
    route: Route,
}

impl Routes {
    /// Of these ingresses, by `namespace/name`; `upstream` finds who is behind a backend, `None` for one that is no service.
    pub fn of<'a>(
        ingresses: impl Iterator<Item = (&'a str, &'a Object)>,
        mut upstream: impl FnMut(&'a str, Option<Backend<'a>>) -> Arc<Upstream>,
    ) -> Self {
        let mut sorted: Vec<(&str, &Object)> = ingresses.collect();
        sorted.sort_by_key(|(name, object)| (object.str_at(&["metadata", "creationTimestamp"]), *name));
        let mut routes = Self::default();
        let mut second = None;
        for (name, object) in sorted {
            let settings = Arc::new(Settings::of(name, object));
            let namespace = name.split_once('/').map_or("", |(namespace, _)| namespace);
            let mut route = |backend| Route { ingress: settings.clone(), upstream: upstream(namespace, backend) };
            let default = object.at(&["spec", "defaultBackend"]).filter(|default| default.is_object());
            let default = default.map(|_| route(Ingress(object).default_backend()));
            let mut bare = true;
            for rule in Ingress(object).rules() {
                bare = false;
                let host = routes.host(rule.host());
                for path in rule.paths() {
                    let exact = path.kind() == "Exact";
                    let text = decoded(path.path());
                    let text = if exact { text } else { text.trim_end_matches('/').to_owned() };
                    host.paths.push(Path { exact, path: text, route: route(path.backend()) });
                }
                if host.default.is_none() {
                    host.default.clone_from(&default);
                }
            }
            let place = if bare { &mut routes.fallback } else { &mut second };
            if place.is_none() {
                *place = default;
            }
        }
        routes.fallback = routes.fallback.or(second);
        for host in routes.exact.values_mut().chain(routes.wildcard.values_mut()).chain([&mut routes.any]) {
            host.paths.sort_by(|a, b| b.path.len().cmp(&a.path.len()).then(b.exact.cmp(&a.exact)));
        }
        routes
    }

    fn host(&mut self, name: &str) -> &mut Host {
        match name.strip_prefix('*') {
            Some(rest) => self.wildcard.entry(rest.to_ascii_lowercase()).or_default(),
            None if name.is_empty() => &mut self.any,
            None => self.exact.entry(name.to_ascii_lowercase()).or_default(),
        }
    }

    /// Where a request goes: its host in lower case, without a port; its path as it was sent.
    pub fn choose(&self, host: &str, path: &str) -> Option<&Route> {
        let path = decoded(path);
        let hosts = [self.exact.get(host), self.wildcard.get(beyond_first(host)), Some(&self.any)];
        hosts.into_iter().flatten().find_map(|host| host.choose(&path)).or(self.fallback.as_ref())
    }
}

impl Host {
    fn choose(&self, path: &str) -> Option<&Route> {
        let found = self.paths.iter().find(|one| if one.exact { one.path == path } else { is_below(path, &one.path) });
        found.map(|one| &one.route).or(self.default.as_ref())
    }
}

/// Whether a path is `prefix` or goes on below it, element by element.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `.example.com` of `www.example.com`: a star stands for one label.
fn beyond_first(host: &str) -> &str {
    host.find('.').and_then(|at| host.get(at..)).unwrap_or_default()
}

/// A path as it is compared: what is escaped without need is read, steps up and on the spot are taken. `%2F` is no slash. The path that
/// the backend gets is the one that was sent.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |at: usize| tail.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let escaped = hex(0).zip(hex(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match escaped.filter(|&byte| first == b'%' && byte != b'/') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    if !text.split('/').any(|part| part == "." || part == "..") {
        return text.into_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/').skip(1) {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn backend(name: &str) -> Value {
        json!({"service": {"name": name, "port": {"number": 80}}})
    }

    /// A rule of a host; paths are `TYPE PATH SERVICE`.
    fn rule(host: &str, paths: &[&str]) -> Value {
        let path = |text: &&str| {
            let mut parts = text.split(' ');
            let mut next = || parts.next().unwrap();
            json!({"pathType": next(), "path": next(), "backend": backend(next())})
        };
        json!({"host": host, "http": {"paths": paths.iter().map(path).collect::<Vec<_>>()}})
    }

    fn routes(ingresses: &[(&str, Value)]) -> Routes {
        let objects: Vec<(String, Object)> = ingresses
            .iter()
            .map(|(name, spec)| {
                let at = |digit: &str| format!("2026-01-0{digit}T00:00:00Z");
                let (name, day) = name.split_once('@').unwrap_or((name, "1"));
                let object = json!({"metadata": {"name": name, "creationTimestamp": at(day)}, "spec": spec});
                (format!("default/{name}"), Object::from_value(object).unwrap())
            })
            .collect();
        Routes::of(objects.iter().map(|(name, object)| (name.as_str(), object)), |_, backend| {
            Arc::new(Upstream::without(backend.map_or("-", |backend| backend.service), ""))
        })
    }

    /// Which service gets it; `-` when none does.
    fn goes(routes: &Routes, host: &str, path: &str) -> String {
        routes.choose(host, path).map_or("-".to_owned(), |route| route.upstream.title.clone())
    }

    /// The table "Examples" below "Path types" on Kubernetes' page about ingresses.
    #[test]
    fn paths_match_as_the_documentation_says() {
        for (paths, request, service) in [
            (&["Prefix / all"][..], "/any/path", "all"),
            (&["Exact /foo foo"], "/foo", "foo"),
            (&["Exact /foo foo"], "/bar", "-"),
            (&["Exact /foo foo"], "/foo/", "-"),
            (&["Exact /foo/ foo"], "/foo", "-"),
            (&["Prefix /foo foo"], "/foo", "foo"),
            (&["Prefix /foo foo"], "/foo/", "foo"),
            (&["Prefix /foo/ foo"], "/foo", "foo"),
            (&["Prefix /foo/ foo"], "/foo/", "foo"),
            (&["Prefix /aaa/bb b"], "/aaa/bbb", "-"),
            (&["Prefix /aaa/bbb b"], "/aaa/bbb", "b"),
            (&["Prefix /aaa/bbb/ b"], "/aaa/bbb", "b"),
            (&["Prefix /aaa/bbb b"], "/aaa/bbb/", "b"),
            (&["Prefix /aaa/bbb b"], "/aaa/bbb/ccc", "b"),
            (&["Prefix /aaa/bbb b"], "/aaa/bbbxyz", "-"),
            (&["Prefix / all", "Prefix /aaa a"], "/aaa/ccc", "a"),
            (&["Prefix / all", "Prefix /aaa a", "Prefix /aaa/bbb b"], "/aaa/bbb", "b"),
            (&["Prefix / all", "Prefix /aaa a", "Prefix /aaa/bbb b"], "/ccc", "all"),
            (&["Prefix /aaa a"], "/ccc", "-"),
            (&["Prefix /foo prefix", "Exact /foo exact"], "/foo", "exact"),
            // And what it does not list.
            (&["Prefix /foo prefix", "Exact /foo exact"], "/foo/bar", "prefix"),
            (&["ImplementationSpecific /foo foo"], "/foo/bar", "foo"),
            (&["Prefix /caf%C3%A9 c"], "/café/x", "c"),
            (&["Prefix /admin secret", "Prefix / open"], "/%61dmin", "secret"),
            (&["Prefix /admin secret", "Prefix / open"], "/public/../admin/x", "secret"),
            (&["Prefix /admin secret", "Prefix / open"], "/a%2Fdmin", "open"),
            (&["Prefix / all"], "/../..", "all"),
        ] {
            let routes = routes(&[("web", json!({"rules": [rule("foo.bar.com", paths)]}))]);
            assert_eq!(goes(&routes, "foo.bar.com", request), service, "{paths:?} {request}");
        }
    }

    /// The table of hosts with wildcards on the same page.
    #[test]
    fn a_star_stands_for_one_label() {
        let routes = routes(&[(
            "web",
            json!({"rules": [rule("*.foo.com", &["Prefix / star"]), rule("Bar.foo.com", &["Prefix /bar bar"])]}),
        )]);
        for (host, path, service) in [
            ("bar.foo.com", "/bar", "bar"),
            ("bar.foo.com", "/", "star"),
            ("baz.foo.com", "/bar", "star"),
            ("baz.bar.foo.com", "/", "-"),
            ("foo.com", "/", "-"),
            ("", "/", "-"),
        ] {
            assert_eq!(goes(&routes, host, path), service, "{host}{path}");
        }
    }

    #[test]
    fn a_default_backend_gets_what_is_left() {
        let alone = json!({"defaultBackend": backend("alone")});
        let hosted = json!({"defaultBackend": backend("own"), "rules": [rule("a.com", &["Prefix /x x"]), {"host": "b.com"}]});
        let routes_with = routes(&[("hosted", hosted.clone()), ("alone@2", alone)]);
        for (host, path, service) in
            [("a.com", "/x", "x"), ("a.com", "/y", "own"), ("b.com", "/", "own"), ("c.com", "/", "alone"), ("", "/", "alone")]
        {
            assert_eq!(goes(&routes_with, host, path), service, "{host}{path}");
        }
        assert_eq!(goes(&routes(&[("hosted", hosted)]), "c.com", "/"), "own");
        let resource = json!({"defaultBackend": {"resource": {"kind": "Bucket", "name": "b"}}});
        assert_eq!(goes(&routes(&[("bucket", resource)]), "c.com", "/"), "-");
    }

    #[test]
    fn of_two_that_say_the_same_the_older_counts() {
        let with = |service: &str| json!({"rules": [rule("a.com", &[&format!("Prefix / {service}")])]});
        let both = routes(&[("a@2", with("younger")), ("z@1", with("older"))]);
        assert_eq!(goes(&both, "a.com", "/"), "older");
        // Rules of several ingresses for one host are one.
        let more = json!({"rules": [rule("a.com", &["Prefix /api api"])]});
        assert_eq!(goes(&routes(&[("a", with("web")), ("b", more)]), "a.com", "/api/v1"), "api");
    }

    #[test]
    fn who_has_a_certificate_wants_tls() {
        let settings = |annotations: Value, tls: Value| {
            let object = json!({"metadata": {"annotations": annotations}, "spec": {"tls": tls}});
            Settings::of("default/web", &Object::from_value(object).unwrap())
        };
        let tls = json!([{"hosts": ["a.com", "*.b.com"], "secretName": "s"}]);
        let usual = settings(json!({}), tls.clone());
        for (host, redirects) in [("a.com", true), ("x.b.com", true), ("b.com", false), ("c.com", false)] {
            assert_eq!(usual.redirects(host), redirects, "{host}");
        }
        assert!(settings(json!({}), json!([{"secretName": "s"}])).redirects("c.com"));
        assert!(!settings(json!({"nginx.ingress.kubernetes.io/ssl-redirect": "false"}), tls.clone()).redirects("a.com"));
        assert!(!settings(json!({"bramble/ssl-redirect": "false"}), tls).redirects("a.com"));
        let forced = settings(json!({"nginx.ingress.kubernetes.io/force-ssl-redirect": "true"}), json!([]));
        assert!(forced.redirects("c.com"));
        for (text, seconds) in [("3600", 3600), ("0", 60), ("long", 60), ("99999999999999999999", 60)] {
            let slow = settings(json!({"nginx.ingress.kubernetes.io/proxy-read-timeout": text}), json!([]));
            assert_eq!(slow.patience, Duration::from_secs(seconds), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_request_makes_it_panic(host in "[a-z.*]{0,12}", path in "[/.%a-f0-9é]{0,20}") {
            let routes = routes(&[("web", json!({"rules": [rule("*.a", &["Prefix / x", "Exact /a/%2e%2e y"])]}))]);
            let _ = routes.choose(&host, &path);
        }
    }
}
