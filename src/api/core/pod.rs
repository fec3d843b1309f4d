//! What is asked of pods in more than one place. A lens: it borrows the object and keeps nothing.
//!
//! Never:    decides anything about a pod.

use serde_json::Value;

use super::condition::{self, Condition};
use super::node::{Effect, Taint};
use super::resources::Resources;
use crate::api::object::{Object, OwnerReference};
use crate::api::time::parse;
use crate::clock::Wall;

/// A pod, read.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a>(pub &'a Object);

impl<'a> Pod<'a> {
    /// `spec.nodeName`; `""` while it is not bound.
    #[must_use]
    pub fn node_name(self) -> &'a str {
        self.0.str_at(&["spec", "nodeName"])
    }

    /// `status.phase`; `Pending` when nothing was said yet.
    #[must_use]
    pub fn phase(self) -> &'a str {
        match self.0.str_at(&["status", "phase"]) {
            "" => "Pending",
            phase => phase,
        }
    }

    /// Whether all of its containers have ended for good.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// Whether its deletion was asked for.
    #[must_use]
    pub fn is_terminating(self) -> bool {
        self.0.is_deleting()
    }

    /// Whether it counts as a replica: neither ended nor on its way out.
    #[must_use]
    pub fn is_active(self) -> bool {
        !self.is_terminal() && !self.is_terminating()
    }

    /// Whether it serves: condition `Ready` is `True`.
    #[must_use]
    pub fn is_ready(self) -> bool {
        Condition::of(self.0, "Ready").is_some_and(|ready| ready.status == "True")
    }

    /// Since when it is as ready, or not ready, as it is.
    #[must_use]
    pub fn ready_since(self) -> Option<Wall> {
        condition::since(self.0, "Ready")
    }

    /// Whether it has been ready for at least so many seconds; else, when it is ready, the milliseconds that are missing.
    ///
    /// # Errors
    /// `None` when it is not ready at all.
    pub fn available(self, min_ready_seconds: i64, now: Wall) -> Result<(), Option<i64>> {
        if !self.is_ready() {
            return Err(None);
        }
        let needed = min_ready_seconds.saturating_mul(1000);
        if needed <= 0 {
            return Ok(());
        }
        // A transition time that lies in the future is a clock that was set back: count from now.
        let age = self.ready_since().map_or(0, |since| now.0.saturating_sub(since.0)).max(0);
        if age >= needed { Ok(()) } else { Err(Some(needed - age)) }
    }

    /// `spec.priority`.
    #[must_use]
    pub fn priority(self) -> i64 {
        self.0.i64_at(&["spec", "priority"]).unwrap_or_default()
    }

    /// The seconds that its containers get to stop: `spec.terminationGracePeriodSeconds`, else Kubernetes' 30.
    #[must_use]
    pub fn grace_seconds(self) -> i64 {
        self.0.i64_at(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30).max(0)
    }

    /// The controller that manages it.
    #[must_use]
    pub fn owner(self) -> Option<OwnerReference<'a>> {
        self.0.controller()
    }

    /// How often its containers were started again, all together.
    #[must_use]
    pub fn restarts(self) -> i64 {
        ["containerStatuses", "initContainerStatuses"]
            .iter()
            .flat_map(|list| self.0.list_at(&["status", list]))
            .filter_map(|status| status.get("restartCount").and_then(Value::as_i64))
            .sum()
    }

    /// When it was created.
    #[must_use]
    pub fn created(self) -> Option<Wall> {
        parse(self.0.str_at(&["metadata", "creationTimestamp"]))
    }

    /// What it asks of a node.
    ///
    /// The sum over its containers, or the largest moment while its init containers run (a sidecar, which is an init
    /// container that always restarts, counts with all that come after it), and the overhead.
    /// Source: upstream `resourcehelper.PodRequests`.
    #[must_use]
    pub fn requests(self) -> Resources {
        let of = |container: &Value| Resources::read(container.pointer("/resources/requests"));
        let mut sum = Resources::default();
        for container in self.0.list_at(&["spec", "containers"]) {
            sum.add(&of(container));
        }
        let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
        for container in self.0.list_at(&["spec", "initContainers"]) {
            let mut moment = of(container);
            if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
                sidecars.add(&moment);
                moment = sidecars.clone();
            } else {
                moment.add(&sidecars);
            }
            peak.at_least(&moment);
        }
        sum.add(&sidecars);
        sum.at_least(&peak);
        if let Some(whole) = self.0.at(&["spec", "resources", "requests"]) {
            // Asked for the pod as a whole: that rules for the resources it names.
            let read = Resources::read(Some(whole));
            if whole.get("cpu").is_some() {
                sum.milli_cpu = read.milli_cpu;
            }
            if whole.get("memory").is_some() {
                sum.memory = read.memory;
            }
        }
        sum.add(&Resources::read(self.0.at(&["spec", "overhead"])));
        sum
    }

    /// `spec.tolerations`.
    pub fn tolerations(self) -> impl Iterator<Item = Toleration<'a>> + use<'a> {
        self.0.list_at(&["spec", "tolerations"]).iter().map(Toleration::read)
    }

    /// The ports of the node that its containers want.
    pub fn host_ports(self) -> impl Iterator<Item = HostPort> + use<'a> {
        let host_network = self.0.bool_at(&["spec", "hostNetwork"]);
        let sidecars = self.0.list_at(&["spec", "initContainers"]).iter();
        let sidecars = sidecars.filter(|container| container.get("restartPolicy").and_then(Value::as_str) == Some("Always"));
        self.0
            .list_at(&["spec", "containers"])
            .iter()
            .chain(sidecars)
            .filter_map(|container| container.get("ports").and_then(Value::as_array))
            .flatten()
            .filter_map(move |port| HostPort::read(port, host_network))
    }
}

/// One port of a node, wanted or taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Its number.
    pub port: i64,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The address it is bound to; `""` for all.
    pub ip: String,
}

impl HostPort {
    fn read(port: &Value, host_network: bool) -> Option<Self> {
        let text = |key: &str| port.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| port.get(key).and_then(Value::as_i64).filter(|&number| number > 0);
        let fallback = if host_network { number("containerPort") } else { None };
        Some(Self {
            port: number("hostPort").or(fallback)?,
            protocol: if text("protocol").is_empty() { "TCP" } else { text("protocol") }.to_owned(),
            ip: if text("hostIP") == "0.0.0.0" { "" } else { text("hostIP") }.to_owned(),
        })
    }

    /// Whether both cannot be on one node.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let addresses_meet = self.ip.is_empty() || other.ip.is_empty() || self.ip == other.ip;
        (self.port, &self.protocol) == (other.port, &other.protocol) && addresses_meet
    }
}

/// One entry of `spec.tolerations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toleration<'a> {
    /// `""` tolerates every key, with `Exists`.
    pub key: &'a str,
    /// `Exists`, else `Equal`.
    pub exists: bool,
    /// The value of the taint, for `Equal`.
    pub value: &'a str,
    /// `""` tolerates every effect.
    pub effect: &'a str,
    /// For `NoExecute`: how long; for ever when not given.
    pub seconds: Option<i64>,
}

impl<'a> Toleration<'a> {
    fn read(raw: &'a Value) -> Self {
        let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
        Self {
            key: text("key"),
            exists: text("operator") == "Exists",
            value: text("value"),
            effect: text("effect"),
            seconds: raw.get("tolerationSeconds").and_then(Value::as_i64),
        }
    }

    /// Whether it covers this taint.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_empty() || Effect::read(self.effect) == Some(taint.effect);
        let key = if self.key.is_empty() { self.exists } else { self.key == taint.key };
        effect && key && (self.exists || self.value == taint.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: Value) -> Object {
        Object::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn requests_are_the_largest_moment_of_a_pod() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (spec, milli) in [
            (json!({"containers": [c("100m"), c("200m")]}), 300),
            (json!({"containers": [c("100m")], "initContainers": [c("500m"), c("300m")]}), 500),
            (json!({"containers": [c("100m")], "initContainers": [sidecar("50m"), c("300m")]}), 350),
            (json!({"containers": [c("400m")], "initContainers": [sidecar("50m"), c("300m")]}), 450),
            (json!({"containers": [c("100m")], "overhead": {"cpu": "10m"}}), 110),
            (json!({"containers": [c("100m")], "resources": {"requests": {"cpu": "70m"}}}), 70),
            (json!({}), 0),
        ] {
            assert_eq!(Pod(&pod(spec.clone())).requests().milli_cpu, milli, "{spec}");
        }
    }

    #[test]
    fn tolerations_cover_taints_as_kubernetes_says() {
        let taint = Taint { key: "disk".into(), value: "sd".into(), effect: Effect::NoExecute };
        for (toleration, covers) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "disk", "operator": "Exists"}), true),
            (json!({"key": "disk", "value": "sd"}), true),
            (json!({"key": "disk", "operator": "Equal", "value": "ssd"}), false),
            (json!({"key": "disk", "operator": "Exists", "effect": "NoExecute"}), true),
            (json!({"key": "disk", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"value": "sd"}), false),
        ] {
            let pod = pod(json!({"tolerations": [toleration]}));
            assert_eq!(Pod(&pod).tolerations().any(|t| t.tolerates(&taint)), covers, "{:?}", pod.raw());
        }
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_for_long_enough() {
        let mut object = Object::default();
        let ready = Condition { kind: "Ready", status: "True", reason: "", message: "" };
        assert_eq!(Pod(&object).available(0, Wall(0)), Err(None));
        ready.set(&mut object, Wall(10_000));
        assert_eq!(Pod(&object).available(0, Wall(10_000)), Ok(()));
        assert_eq!(Pod(&object).available(5, Wall(12_000)), Err(Some(3000)));
        assert_eq!(Pod(&object).available(5, Wall(15_000)), Ok(()));
        assert_eq!(Pod(&object).available(5, Wall(1000)), Err(Some(5000)), "the clock was set back");
    }

    #[test]
    fn host_ports_clash_by_number_protocol_and_address() {
        let ports =
            |ports: Value| -> Vec<HostPort> { Pod(&pod(json!({"containers": [{"ports": ports}]}))).host_ports().collect() };
        let web = ports(json!([{"hostPort": 80, "containerPort": 8080}, {"containerPort": 9}]));
        assert_eq!(web.len(), 1);
        for (other, clash) in [
            (json!([{"hostPort": 80}]), true),
            (json!([{"hostPort": 80, "hostIP": "127.0.0.1"}]), true),
            (json!([{"hostPort": 80, "protocol": "UDP"}]), false),
            (json!([{"hostPort": 81}]), false),
        ] {
            assert_eq!(web[0].clashes(&ports(other.clone())[0]), clash, "{other}");
        }
        let host = pod(json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 1883}]}]}));
        assert_eq!(Pod(&host).host_ports().map(|p| p.port).collect::<Vec<_>>(), [1883]);
    }
}
