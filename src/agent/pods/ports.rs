//! Who has a port of this node that another pod wants. Pure.

use crate::agent::runtime::Failure;
use crate::api::Object;
use crate::api::core::pod::Pod;

/// A failed start of a pod's sandbox, with who has its port when that is another pod of this node. Docker knows only that it is
/// taken.
#[must_use]
pub fn with_holder<'a>(failure: Failure, wanted: &Object, others: impl Iterator<Item = &'a Object>) -> Failure {
    match (failure, holder(wanted, others)) {
        (Failure::Failed(words), Some(holder)) => Failure::Failed(format!("{holder}: {}", without_ids(&words))),
        (Failure::Failed(words), None) => Failure::Failed(stranger(wanted, &words).unwrap_or_else(|| without_ids(&words))),
        (failure, _) => failure,
    }
}

/// `host port 80/TCP is taken by another program on this node`, when the engine says so much of a port that the pod wants.
fn stranger(wanted: &Object, words: &str) -> Option<String> {
    let taken = ["port is already allocated", "address already in use"].iter().any(|says| words.contains(says));
    let named = |port: u16| {
        let mut rest = words;
        while let Some((_, after)) = rest.split_once(&format!(":{port}")) {
            if !after.starts_with(|next: char| next.is_ascii_digit()) {
                return true;
            }
            rest = after;
        }
        false
    };
    let ports: Vec<_> = Pod(wanted).host_ports().collect();
    let port = ports.iter().filter(|_| taken).find(|port| u16::try_from(port.port).is_ok_and(named))?;
    Some(format!("host port {}/{} is taken by another program on this node", port.port, port.protocol))
}

/// Without the ids that are others at each try: the same trouble is told in the same words.
fn without_ids(words: &str) -> String {
    let is_id = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        word.len() >= 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    words.split(' ').filter(|word| !is_id(word)).collect::<Vec<_>>().join(" ")
}

/// `host port 80/TCP is already allocated: pod default/web has it`.
fn holder<'a>(wanted: &Object, others: impl Iterator<Item = &'a Object>) -> Option<String> {
    let ports: Vec<_> = Pod(wanted).host_ports().collect();
    others.filter(|_| !ports.is_empty()).find_map(|other| {
        let port = Pod(other).host_ports().find_map(|theirs| ports.iter().find(|ours| ours.clashes(&theirs)))?;
        let (number, protocol) = (port.port, &port.protocol);
        Some(format!("host port {number}/{protocol} is already allocated: pod {}/{} has it", other.namespace(), other.name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_holder_is_named_when_it_is_known() {
        let pod = |name: &str, port: u16| {
            let ports = json!([{"containerPort": 80, "hostPort": port}]);
            let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [{"ports": ports}]}});
            Object::from_value(object).unwrap()
        };
        let (a, b, c) = (pod("a", 8080), pod("b", 8081), pod("c", 8080));
        let docker = || Failure::Failed("port is already allocated".into());
        let told = with_holder(docker(), &a, [&b, &c].into_iter());
        let words = "host port 8080/TCP is already allocated: pod default/c has it: port is already allocated";
        assert_eq!(told, Failure::Failed(words.into()));
        assert_eq!(with_holder(docker(), &a, [&b].into_iter()), docker());
        let said = |words: String| with_holder(Failure::Failed(words), &a, [&b].into_iter());
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            said(format!("driver failed on endpoint web ({id}): Bind for 0.0.0.0:8080 failed: port is already allocated")),
            Failure::Failed("host port 8080/TCP is taken by another program on this node".into())
        );
        assert_eq!(
            said(format!("endpoint web ({id}): 0.0.0.0:80801 no")),
            Failure::Failed("endpoint web 0.0.0.0:80801 no".into())
        );
        let away = || Failure::Unavailable("away".into());
        assert_eq!(with_holder(away(), &a, [&c].into_iter()), away());
    }
}
