//! Who has a port of this node that another pod wants. Pure.

use crate::agent::runtime::Failure;
use crate::api::Object;
use crate::api::core::pod::Pod;

/// A failed start of a pod's sandbox, with who has its port when that is another pod of this node. Docker knows only that it is
/// taken.
#[must_use]
pub fn with_holder<'a>(failure: Failure, wanted: &Object, others: impl Iterator<Item = &'a Object>) -> Failure {
    match (failure, holder(wanted, others)) {
        (Failure::Failed(words), Some(holder)) => Failure::Failed(format!("{holder}: {words}")),
        (failure, _) => failure,
    }
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
        let away = || Failure::Unavailable("away".into());
        assert_eq!(with_holder(away(), &a, [&c].into_iter()), away());
    }
}
