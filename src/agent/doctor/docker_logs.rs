//! Whether Docker keeps the logs of containers within bounds. Bramble bounds those of its pods itself; everything else that runs in
//! this Docker writes until the card is full.
//!
//! Source: Docker's documentation, "JSON File logging driver": `max-size` is `-1`, without bound, by default. An option that stands in
//! `daemon.json` and among the daemon's flags keeps the daemon from starting.

use super::json_text::{Object, ObjectError, indent};
use super::{Act, Finding, Host, Seen, State, docker, undo_of_file, unit};

/// This check's name.
pub const ID: &str = "docker-logs";
const FILE: &str = "/etc/docker/daemon.json";
const WHY: &str = "a container that is not Bramble's writes its log until the card is full, and then nothing works";
/// As Docker's documentation suggests it.
const MAX_SIZE: &str = "10m";
const MAX_FILE: &str = "3";
const DEFAULT_DRIVER: &str = "json-file";
const RESTART: &str = "sudo systemctl restart docker (containers that are there keep their old bounds until they are made anew";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let seen = host.read(FILE);
    if !docker::has_docker(host) && seen == Seen::Missing {
        return Finding::absent(ID, "no Docker daemon here");
    }
    let shown = host.shown(FILE);
    let wrong = |what: String| Finding::new(ID, State::Warning, what).because(WHY);
    let text = match seen {
        Seen::Text(text) => text,
        Seen::Missing => String::new(),
        Seen::Denied => return Finding::unseen(ID, format!("{shown} may be read by root only")),
        Seen::Strange(why) => {
            return wrong(format!("{shown} cannot be used: {why}")).todo("mend it by hand; it is left as it is");
        }
    };
    let flags = flags(host);
    match judge(&text) {
        Ok(Judged::Bound) => Finding::ok(ID, "logs of containers are bounded").undoable(undo_of_file(host, FILE)),
        Ok(Judged::Elsewhere(words)) => Finding::ok(ID, words),
        Ok(Judged::Unknown(driver)) => {
            Finding::unseen(ID, format!("whether the log driver {driver:?} bounds what it keeps: it is none of Docker's own"))
        }
        Ok(Judged::Boundless { .. }) if flags.contains("--log-opt") || flags.contains("--log-driver") => match flags.contains("max-size") {
            true => Finding::ok(ID, "logs of containers are bounded by the daemon's flags"),
            false => wrong("Docker keeps logs without bound, by flags of its unit".to_owned())
                .todo("by hand, for Docker takes an option from one place only: add `--log-opt max-size=10m --log-opt max-file=3` there"),
        },
        Ok(Judged::Boundless { content, live_restore }) => {
            let does = format!("sets max-size {MAX_SIZE} and max-file {MAX_FILE} in {shown} and keeps all else");
            let then = match live_restore {
                _ if !host.runs() => String::new(),
                true => format!("{RESTART}; live-restore is on, so they go on meanwhile)"),
                false => format!("{RESTART}; without \"live-restore\": true it stops them all for a moment)"),
            };
            wrong("Docker keeps logs without bound".to_owned())
                .mended_by(host, does, vec![Act::Write { path: FILE.to_owned(), content }])
                .then(then)
        }
        Err(fault) => Finding::new(ID, State::Problem, format!("{shown} is not what Docker reads: {fault}"))
            .because(match fault {
                Fault::Object(_) | Fault::Kind(..) => "Docker does not start with it",
                Fault::Size(_) => "with it no container that is made now starts",
            })
            .todo("mend it by hand; it is left as it is"),
    }
}

/// The daemon's flags, wherever Debian and systemd keep them.
fn flags(host: &dyn Host) -> String {
    let mut flags = unit::values(host, "docker.service", "ExecStart").join(" ");
    flags.push_str(
        &host
            .read("/etc/default/docker")
            .text()
            .map(|text| super::settings(&text).collect::<Vec<_>>().join(" "))
            .unwrap_or_default(),
    );
    flags
}

/// How the file bounds logs.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    /// It does.
    Bound,
    /// Another driver does: how.
    Elsewhere(&'static str),
    /// A driver that is not known here, by name.
    Unknown(String),
    /// It does not; the file as it would.
    Boundless { content: String, live_restore: bool },
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("{0} is not {1}")]
    Kind(&'static str, &'static str),
    #[error("max-size {0:?} is no size above 0, such as 10m")]
    Size(String),
}

fn judge(text: &str) -> Result<Judged, Fault> {
    // Docker takes an empty file for one without settings.
    let written = if text.trim().is_empty() { "{}" } else { text };
    let mut object = Object::parse(written)?;
    let word = |value: Option<&str>, name| {
        let read = |value: &str| serde_json::from_str::<String>(value).map_err(|_| Fault::Kind(name, "a text"));
        value.map(read).transpose()
    };
    let driver = word(object.get("log-driver"), "log-driver")?.unwrap_or_default();
    match (driver.as_str(), elsewhere(&driver)) {
        // An empty name is the default.
        ("" | DEFAULT_DRIVER, _) => {}
        (_, Some(how)) => return Ok(Judged::Elsewhere(how)),
        (_, None) => return Ok(Judged::Unknown(driver)),
    }
    let old = object.get("log-opts").unwrap_or("{}").to_owned();
    let mut options = Object::parse(&old).map_err(|error| match error {
        ObjectError::Form(_) => Fault::Kind("log-opts", "an object"),
        twice @ ObjectError::Twice(_) => twice.into(),
    })?;
    match word(options.get("max-size"), "max-size")?.as_deref() {
        // As the documentation writes "no bound".
        None | Some("" | "-1") => {}
        Some(size) if is_size(size) => return Ok(Judged::Bound),
        Some(size) => return Err(Fault::Size(size.to_owned())),
    }
    let step = indent(text);
    options.set("max-size", format!("{MAX_SIZE:?}"));
    if options.get("max-file").is_none() {
        options.set("max-file", format!("{MAX_FILE:?}"));
    }
    let options = options.printed(&step.repeat(2), step);
    let live_restore = object.get("live-restore") == Some("true");
    object.set("log-opts", options);
    if driver.is_empty() {
        object.set("log-driver", format!("{DEFAULT_DRIVER:?}"));
    }
    Ok(Judged::Boundless { content: format!("{}\n", object.printed(step, "")), live_restore })
}

/// How Docker's other drivers keep logs from filling the card, by their own documentation; `None`: a plugin, or a wrong name.
fn elsewhere(driver: &str) -> Option<&'static str> {
    match driver {
        "none" => Some("no logs are kept"),
        "local" => Some("logs go to Docker's driver local, which bounds them"),
        "journald" => Some("logs go to the journal, which bounds them"),
        "syslog" => Some("logs go to syslog, which keeps what it is told to"),
        "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs" => Some("logs go to a collector, not to a file of Docker"),
        _ => None,
    }
}

/// Whether Docker takes it for a size above 0: figures with a fraction, one blank, k to p, `b` or `ib`; in any case.
fn is_size(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let figures = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(figures).unwrap_or_default();
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').map_or(unit, |unit| unit.strip_suffix('i').unwrap_or(unit));
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "p" => 1e15,
        _ => return false,
    };
    let plain = figures.starts_with(|c: char| c.is_ascii_digit()) && figures.chars().all(|c| c.is_ascii_digit() || c == '.');
    // Docker cuts what is below one byte off.
    plain && figures.parse::<f64>().is_ok_and(|size| size * factor >= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_added_and_all_else_is_kept() {
        let Judged::Boundless { content, live_restore } = judge("").unwrap() else { panic!("bounded") };
        assert_eq!(
            content,
            "{\n  \"log-opts\": {\n    \"max-size\": \"10m\",\n    \"max-file\": \"3\"\n  },\n  \"log-driver\": \"json-file\"\n}\n"
        );
        assert!(!live_restore);
        let text = r#"{"live-restore": true, "data-root": "/mnt/ssd/docker", "log-opts": {"labels":"a,b", "max-size": "-1", "max-file":"9"}, "default-address-pools":[{"base":"10.99.0.0/16","size":24}]}"#;
        let Judged::Boundless { content, live_restore } = judge(text).unwrap() else { panic!("bounded") };
        assert!(live_restore);
        let (mut before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(text).unwrap(), serde_json::from_str(&content).unwrap());
        before["log-opts"]["max-size"] = "10m".into();
        before["log-driver"] = "json-file".into();
        assert_eq!(before, after);
        assert_eq!(judge(&content).unwrap(), Judged::Bound, "a second time there is nothing to do");
    }

    #[test]
    fn what_is_bounded_or_goes_elsewhere_is_left_alone() {
        for driver in ["none", "local", "journald", "syslog", "gelf", "fluentd", "awslogs", "splunk", "gcplogs"] {
            let judged = judge(&format!("{{\"log-driver\":{driver:?}}}")).unwrap();
            assert!(matches!(judged, Judged::Elsewhere(_)), "{driver}: {judged:?}");
        }
        assert_eq!(judge(r#"{"log-driver":"loki"}"#).unwrap(), Judged::Unknown("loki".to_owned()), "nobody knows its bounds");
        assert_eq!(judge(r#"{"log-driver":"","log-opts":{"max-size":"1m"}}"#).unwrap(), Judged::Bound);
        let Judged::Boundless { content, .. } = judge(r#"{"log-driver":""}"#).unwrap() else { panic!("bounded") };
        assert!(content.contains("\"log-driver\": \"json-file\""), "{content}");
        assert_eq!(judge(r#"{"log-driver":"json-file","log-opts":{"max-size":"1m"}}"#).unwrap(), Judged::Bound);
    }

    #[test]
    fn what_docker_does_not_read_is_a_fault() {
        for text in
            ["{", "[]", "{\"log-driver\": 3}", "{\"log-opts\": []}", "{\"log-opts\": {\"max-size\": 10}}", "{\"a\":1,\"a\":2}"]
        {
            assert!(judge(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_that_docker_does_not_take_is_no_bound() {
        for size in ["1", "10m", "10M", "1.5g", "10 mb", "64KiB", "0.5k", "2p", "7b"] {
            assert_eq!(judge(&format!(r#"{{"log-opts":{{"max-size":"{size}"}}}}"#)).unwrap(), Judged::Bound, "{size}");
        }
        for size in
            ["10x", "0", "0m", "0.5", "-5m", "m", "ten", "10mm", "10i", "10  m", "1e3", ".5m", "1..5m", "+1m", "infm", " "]
        {
            let judged = judge(&format!(r#"{{"log-opts":{{"max-size":"{size}"}}}}"#));
            assert!(matches!(&judged, Err(Fault::Size(told)) if told == size), "{size}: {judged:?}");
        }
        for none in ["", "-1"] {
            let judged = judge(&format!(r#"{{"log-opts":{{"max-size":"{none}"}}}}"#)).unwrap();
            assert!(matches!(judged, Judged::Boundless { .. }), "{none}: {judged:?}");
        }
    }
}
