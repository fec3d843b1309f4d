//! A container's probes, checked.
//!
//! In:       the container's raw JSON.
//! Out:      [`Probes`]; a port's name is its number by then.
//! Never:    fails in silence: what cannot be read is said in words, and the container is not started. A port's name that nobody
//!           has is said each time that it would be asked, as the kubelet does.
//! Source:   v1 Probe; the defaults are those that the API server fills in as well.

use std::time::Duration;

use serde_json::Value;

use super::{list, strings, text};

/// The probes of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// `startupProbe`: until it succeeds the others wait.
    pub startup: Option<Probe>,
    /// `livenessProbe`: when it fails the container is killed.
    pub liveness: Option<Probe>,
    /// `readinessProbe`: when it fails nobody is sent there.
    pub readiness: Option<Probe>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub action: Action,
    /// From the container's start to the first time.
    pub initial_delay: Duration,
    /// From one time to the next.
    pub period: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many good answers in a row count.
    pub success_threshold: u32,
    /// So many bad answers in a row count.
    pub failure_threshold: u32,
    /// The grace of a container that it kills, in place of the pod's.
    pub grace: Option<Duration>,
}

/// The ways to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs this in the container; exit code 0 is good.
    Exec(Vec<String>),
    /// Asks by HTTP or HTTPS; 200 to 399 is good.
    Http(HttpGet),
    /// Opens a connection.
    Tcp {
        /// In place of the pod's address.
        host: Option<String>,
        /// Where.
        port: u16,
    },
    /// Cannot be asked, and why: the container has no port of the name. It runs all the same.
    Portless(String),
    /// Asks gRPC's health service; SERVING is good.
    Grpc {
        /// Where.
        port: u16,
        /// Which service; empty: the whole server.
        service: String,
    },
}

/// `httpGet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Whether by TLS, of which nothing is verified.
    pub tls: bool,
    /// In place of the pod's address.
    pub host: Option<String>,
    /// Where.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
    /// `httpHeaders` in order.
    pub headers: Vec<(String, String)>,
}

impl Probes {
    /// Whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.startup.is_none() && self.liveness.is_none() && self.readiness.is_none()
    }
}

/// Reads the probes of a container.
///
/// # Errors
/// What cannot be read, in words.
pub(super) fn probes(container: &Value) -> Result<Probes, String> {
    let one = |key: &str| -> Result<Option<Probe>, String> {
        let raw = container.get(key).filter(|raw| !raw.is_null());
        raw.map(|raw| probe(container, raw).map_err(|why| format!("{key}: {why}"))).transpose()
    };
    Ok(Probes { startup: one("startupProbe")?, liveness: one("livenessProbe")?, readiness: one("readinessProbe")? })
}

fn probe(container: &Value, raw: &Value) -> Result<Probe, String> {
    let number = |key: &str, default: u32| -> Result<u32, String> {
        match raw.get(key) {
            None | Some(Value::Null) => Ok(default),
            // 0 stands for the default, as the API server has it.
            Some(value) => match value.as_u64().map(u32::try_from) {
                Some(Ok(0)) => Ok(default),
                Some(Ok(number)) => Ok(number),
                _ => Err(format!("{key} {value} is no number of seconds or times")),
            },
        }
    };
    let seconds = |key: &str, default: u32| number(key, default).map(|seconds| Duration::from_secs(seconds.into()));
    Ok(Probe {
        action: match action(container, raw) {
            Ok(action) => action,
            Err(Fault::NoSuchPort(why)) => Action::Portless(why),
            Err(Fault::Other(why)) => return Err(why),
        },
        initial_delay: seconds("initialDelaySeconds", 0)?,
        period: seconds("periodSeconds", 10)?,
        timeout: seconds("timeoutSeconds", 1)?,
        success_threshold: number("successThreshold", 1)?,
        failure_threshold: number("failureThreshold", 3)?,
        grace: Some(seconds("terminationGracePeriodSeconds", 0)?).filter(|grace| !grace.is_zero()),
    })
}

/// Why a way to ask cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The container has no port of the name.
    #[error("{0}")]
    NoSuchPort(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

pub(super) fn action(container: &Value, raw: &Value) -> Result<Action, Fault> {
    let given = |key: &str| raw.get(key).filter(|action| !action.is_null());
    if let Some(exec) = given("exec") {
        let command = strings(exec, "command");
        return if command.is_empty() {
            Err(Fault::Other("exec names no command".to_owned()))
        } else {
            Ok(Action::Exec(command))
        };
    }
    if let Some(get) = given("httpGet") {
        let tls = match text(get, "scheme") {
            "" | "HTTP" => false,
            "HTTPS" => true,
            other => return Err(Fault::Other(format!("httpGet cannot ask by {other}: HTTP and HTTPS are known"))),
        };
        let path = text(get, "path");
        let headers = list(get, "httpHeaders").iter();
        return Ok(Action::Http(HttpGet {
            tls,
            host: host(get),
            port: port(container, get)?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: headers.map(|header| (text(header, "name").to_owned(), text(header, "value").to_owned())).collect(),
        }));
    }
    if let Some(tcp) = given("tcpSocket") {
        return Ok(Action::Tcp { host: host(tcp), port: port(container, tcp)? });
    }
    if let Some(grpc) = given("grpc") {
        return Ok(Action::Grpc { port: port(container, grpc)?, service: text(grpc, "service").to_owned() });
    }
    Err(Fault::Other("it says none of exec, httpGet, tcpSocket and grpc".to_owned()))
}

fn host(action: &Value) -> Option<String> {
    Some(text(action, "host").to_owned()).filter(|host| !host.is_empty())
}

/// A port by number, or by the name that it has among the container's.
fn port(container: &Value, action: &Value) -> Result<u16, Fault> {
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
    let asked = action.get("port").unwrap_or(&Value::Null);
    if let Some(name) = asked.as_str() {
        let named = list(container, "ports").iter().find(|port| text(port, "name") == name);
        // Upstream takes digits in quotes as a number.
        let found = named.map_or_else(|| name.parse().ok().filter(|&port| port > 0), |port| number(port.get("containerPort")?));
        return found.ok_or_else(|| Fault::NoSuchPort(format!("the container has no port named {name:?}")));
    }
    number(asked).ok_or_else(|| Fault::Other(format!("{asked} is no port")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_fields_are_read_and_defaults_are_upstreams() {
        let container = json!({
            "ports": [{"name": "web", "containerPort": 8080}],
            "startupProbe": {"grpc": {"port": 9000, "service": "lamp"}, "failureThreshold": 30},
            "livenessProbe": {"exec": {"command": ["cat", "/tmp/ok"]}, "initialDelaySeconds": 5, "periodSeconds": 2, "timeoutSeconds": 3,
                              "successThreshold": 1, "failureThreshold": 4, "terminationGracePeriodSeconds": 7},
            "readinessProbe": {"httpGet": {"path": "healthz?full=1", "port": "web", "scheme": "HTTPS", "host": "10.1.1.1",
                                           "httpHeaders": [{"name": "Host", "value": "home"}]}, "successThreshold": 2},
        });
        let read = probes(&container).unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(
            read.liveness,
            Some(Probe {
                action: Action::Exec(vec!["cat".into(), "/tmp/ok".into()]),
                initial_delay: seconds(5),
                period: seconds(2),
                timeout: seconds(3),
                success_threshold: 1,
                failure_threshold: 4,
                grace: Some(seconds(7)),
            })
        );
        let startup = read.startup.unwrap();
        assert_eq!(startup.action, Action::Grpc { port: 9000, service: "lamp".into() });
        assert_eq!(
            (startup.initial_delay, startup.period, startup.timeout, startup.success_threshold, startup.failure_threshold),
            (seconds(0), seconds(10), seconds(1), 1, 30)
        );
        let readiness = read.readiness.unwrap();
        assert_eq!((readiness.success_threshold, readiness.grace), (2, None));
        assert_eq!(
            readiness.action,
            Action::Http(HttpGet {
                tls: true,
                host: Some("10.1.1.1".into()),
                port: 8080,
                path: "/healthz?full=1".into(),
                headers: vec![("Host".into(), "home".into())],
            })
        );
        let tcp = json!({"readinessProbe": {"tcpSocket": {"port": "80"}}});
        assert_eq!(probes(&tcp).unwrap().readiness.unwrap().action, Action::Tcp { host: None, port: 80 });
        assert!(probes(&json!({"livenessProbe": null})).unwrap().is_empty());
    }

    #[test]
    fn a_port_that_nobody_named_is_said_when_it_is_asked() {
        let read = probes(&json!({"readinessProbe": {"httpGet": {"port": "web"}}})).unwrap();
        assert_eq!(read.readiness.unwrap().action, Action::Portless("the container has no port named \"web\"".into()));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (probe, words) in [
            (json!({}), "none of exec"),
            (json!({"exec": {}}), "no command"),
            (json!({"httpGet": {"port": 80, "scheme": "GOPHER"}}), "GOPHER"),
            (json!({"tcpSocket": {"port": 0}}), "0 is no port"),
            (json!({"grpc": {"port": 70000}}), "70000 is no port"),
            (json!({"tcpSocket": {"port": 1}, "periodSeconds": -3}), "periodSeconds -3"),
            (json!(7), "none of exec"),
        ] {
            let error = probes(&json!({"livenessProbe": probe})).unwrap_err();
            assert!(error.starts_with("livenessProbe: ") && error.contains(words), "{error}");
        }
    }
}
