//! The rules of DESIGN §7, "Who may what", in the words of a broker that is not ours.
//!
//! In:       the cluster's topics and Home Assistant's prefix.
//! Out:      an access control file for Mosquitto.
//! Never:    decides anything about our own broker (`broker/acl.rs`): the two say the same, each in its own way.

use crate::link::{NodeTopic, Topics};

/// What `acl_file` of Mosquitto names.
///
/// `%u` stands for the user, which is the CN of the client's certificate. Mosquitto acknowledges a subscription that is not
/// allowed and then delivers nothing on it; a publish that is not allowed is refused to MQTT 5 clients with 0x87.
#[must_use]
pub fn mosquitto(topics: &Topics, discovery_prefix: &str, master: &str) -> String {
    let base = topics.base();
    let own = |topic: &NodeTopic| topics.node("%u", topic);
    let (availability, info, health) = (own(&NodeTopic::Availability), own(&NodeTopic::Info), own(&NodeTopic::Health));
    format!(
        "# Who may what in {base}, for Mosquitto. It goes with these lines of mosquitto.conf:
#
#   per_listener_settings true
#   listener 8883
#   cafile   <data_dir>/pki/ca.crt
#   certfile <data_dir>/pki/server.crt
#   keyfile  <data_dir>/pki/server.key
#   require_certificate true
#   use_identity_as_username true
#   acl_file <this file>
#   max_queued_messages 100000
#   max_inflight_messages 100
#   max_packet_size 1048576
#   set_tcp_nodelay true

# The master.
user {master}
topic readwrite {base}/#
topic readwrite {discovery_prefix}/#

# Each node, by the CN of its certificate: what it says of itself, and what the master tells it.
pattern readwrite {availability}
pattern write {info}
pattern write {health}
pattern write {base}/nodes/%u/up/#
pattern read {base}/nodes/%u/down/#
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::acl::{Acl, Client, MASTER};

    /// What Mosquitto makes of the file for a user: the lines in force for it, as (may read, may write, filter).
    fn lines(text: &str, user: &str) -> Vec<(bool, bool, String)> {
        let mut section = String::new();
        let mut all = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["user", name] => section = (*name).to_owned(),
                ["topic", access, filter] if section == user => {
                    all.push((access.contains("read"), access.contains("write"), (*filter).to_owned()));
                }
                ["topic", ..] => {}
                ["pattern", access, filter] => {
                    all.push((access.contains("read"), access.contains("write"), filter.replace("%u", user)));
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn mosquittos_rules_are_those_of_our_own_broker() {
        let text = mosquitto(&Topics::new("home"), "homeassistant", MASTER);
        let ours = Acl::new("bramble/home", "homeassistant");
        let topics = [
            "bramble/home/nodes/n1/availability",
            "bramble/home/nodes/n1/info",
            "bramble/home/nodes/n1/health",
            "bramble/home/nodes/n1/up/report",
            "bramble/home/nodes/n1/up/call/1/data",
            "bramble/home/nodes/n1/down/head",
            "bramble/home/nodes/n1/other",
            "bramble/home/nodes/n2/health",
            "bramble/home/nodes/n2/availability",
            "bramble/home/nodes/n2/down/head",
            "bramble/home/bridge/state",
            "bramble/other/nodes/n1/health",
            "homeassistant/sensor/x/config",
            "elsewhere",
        ];
        for (user, client) in [("n1", Client::Node("n1".to_owned())), (MASTER, Client::Master)] {
            for topic in topics {
                let lines = lines(&text, user);
                let matching = lines.iter().filter(|(_, _, filter)| crate::broker::topic::matches(filter, topic));
                let (reads, writes) =
                    matching.fold((false, false), |(reads, writes), (read, write, _)| (reads | read, writes | write));
                assert_eq!(reads, ours.may_receive(&client, topic), "{user} reads {topic}");
                assert_eq!(writes, ours.may_publish(&client, topic), "{user} writes {topic}");
            }
        }
    }
}
