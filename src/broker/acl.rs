//! Who may what, by the identity that the listener found.
//!
//! ```text
//!             publishes, and leaves as will            subscribes to, and receives
//! master      <base>/…, <discovery>/…                  the same
//! node n      <base>/nodes/n/availability|info|        <base>/nodes/n/availability
//!             health|up/…                              <base>/nodes/n/down/…
//! viewer      nothing                                  <base>/…, but nodes/+/down/… and nodes/+/up/call/…
//! ```
//!
//! Client ids: a node's is its name, or begins with `<name>-`; the master's likewise with `bramble-master`; a viewer's is
//! free. A session belongs to identity *and* client id, so nobody takes over the session of somebody else, whatever it
//! calls itself (node `a` may call itself `a-b`, which is also the name of a node).
//!
//! Source:   DESIGN §7, "Who may what".

use super::topic;

/// CN of the master's own certificate.
pub const MASTER: &str = "bramble-master";
/// Members of this group are people with an administrator's certificate, not nodes.
const ADMINISTRATORS: &str = "system:masters";

/// Who a connection belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// The master by its own certificate.
    Master,
    /// A node by its certificate: its name.
    Node(String),
    /// Anybody on the plain listener.
    Viewer,
}

impl Client {
    /// The client whose certificate has this subject; nothing when it is no client of the broker.
    #[must_use]
    pub fn from_subject(common_name: &str, organizations: &[String]) -> Option<Self> {
        if common_name == MASTER {
            return Some(Client::Master);
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        let name = !common_name.is_empty() && common_name.len() <= 253 && common_name.bytes().all(plain);
        (name && organizations.iter().all(|group| group != ADMINISTRATORS)).then(|| Client::Node(common_name.to_owned()))
    }

    /// How it is called in logs and events.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Client::Master => MASTER,
            Client::Node(name) => name,
            Client::Viewer => "viewer",
        }
    }

    /// Whether it may call itself so.
    #[must_use]
    pub fn may_be_called(&self, client_id: &str) -> bool {
        match self {
            Client::Viewer => client_id.len() <= 256,
            Client::Master | Client::Node(_) => match client_id.strip_prefix(self.name()) {
                Some("") => true,
                Some(rest) => rest.starts_with('-') && rest.len() <= 64,
                None => false,
            },
        }
    }
}

/// The rules of one cluster.
#[derive(Clone, Debug)]
pub struct Acl {
    /// `<base>/`
    base: String,
    /// `<discovery prefix>/`
    discovery: String,
    /// What a viewer never gets.
    hidden: [String; 2],
}

impl Acl {
    /// For the cluster whose topics lie under `base`.
    #[must_use]
    pub fn new(base: &str, discovery_prefix: &str) -> Self {
        let base = base.trim_end_matches('/');
        Self {
            hidden: [format!("{base}/nodes/+/down/#"), format!("{base}/nodes/+/up/call/#")],
            base: format!("{base}/"),
            discovery: format!("{}/", discovery_prefix.trim_end_matches('/')),
        }
    }

    fn ours(&self, topic: &str) -> bool {
        topic.starts_with(&self.base) || topic.starts_with(&self.discovery)
    }

    /// The part of `topic` below the node's own place.
    fn within<'a>(&self, node: &str, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.base)?.strip_prefix("nodes/")?.strip_prefix(node)?.strip_prefix('/')
    }

    /// Whether `client` may publish there, now or as its last will.
    #[must_use]
    pub fn may_publish(&self, client: &Client, topic: &str) -> bool {
        match client {
            Client::Master => self.ours(topic),
            Client::Node(node) => match self.within(node, topic) {
                Some("availability" | "info" | "health") => true,
                Some(rest) => rest.starts_with("up/"),
                None => false,
            },
            Client::Viewer => false,
        }
    }

    /// Whether `client` may subscribe to `filter`. What it then gets is looked at once more, message by message.
    #[must_use]
    pub fn may_subscribe(&self, client: &Client, filter: &str) -> bool {
        match client {
            Client::Master => self.ours(filter),
            Client::Node(node) => self.node_reads(node, filter),
            Client::Viewer => {
                topic::overlap(filter, &format!("{}#", self.base))
                    && !self.hidden.iter().any(|hidden| topic::covers(hidden, filter))
            }
        }
    }

    /// Whether `client` may see what is published on `topic`.
    #[must_use]
    pub fn may_receive(&self, client: &Client, topic: &str) -> bool {
        match client {
            Client::Master => self.ours(topic),
            Client::Node(node) => self.node_reads(node, topic),
            Client::Viewer => topic.starts_with(&self.base) && !self.hidden.iter().any(|hidden| topic::matches(hidden, topic)),
        }
    }

    fn node_reads(&self, node: &str, topic: &str) -> bool {
        match self.within(node, topic) {
            Some("availability") => true,
            Some(rest) => rest.starts_with("down/"),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl() -> Acl {
        Acl::new("bramble/home", "homeassistant")
    }

    fn node() -> Client {
        Client::Node("n1".to_owned())
    }

    #[test]
    fn each_publishes_only_what_is_its_own() {
        for (client, topic, expected) in [
            (node(), "bramble/home/nodes/n1/availability", true),
            (node(), "bramble/home/nodes/n1/up/report", true),
            (node(), "bramble/home/nodes/n1/up/call/7/out", true),
            (node(), "bramble/home/nodes/n1/up", false),
            (node(), "bramble/home/nodes/n1/down/head", false),
            (node(), "bramble/home/nodes/n1/other", false),
            (node(), "bramble/home/nodes/n2/health", false),
            (node(), "bramble/home/nodes/n11/health", false),
            (node(), "bramble/home/bridge/request/scale", false),
            (node(), "bramble/other/nodes/n1/health", false),
            (node(), "homeassistant/x", false),
            (node(), "$SYS/x", false),
            (Client::Master, "bramble/home/nodes/n1/down/head", true),
            (Client::Master, "homeassistant/sensor/x/config", true),
            (Client::Master, "homeassistant2/x", false),
            (Client::Master, "bramble/home2/x", false),
            (Client::Viewer, "bramble/home/bridge/request/scale", false),
        ] {
            assert_eq!(acl().may_publish(&client, topic), expected, "{client:?} {topic}");
        }
    }

    #[test]
    fn each_subscribes_only_to_what_it_may_see() {
        for (client, filter, expected) in [
            (node(), "bramble/home/nodes/n1/down/#", true),
            (node(), "bramble/home/nodes/n1/down/call/+/in", true),
            (node(), "bramble/home/nodes/n1/availability", true),
            (node(), "bramble/home/nodes/n1/#", false),
            (node(), "bramble/home/nodes/+/down/#", false),
            (node(), "bramble/home/nodes/n2/down/#", false),
            (node(), "bramble/home/nodes/n1/up/#", false),
            (node(), "#", false),
            (node(), "+/+/nodes/n1/down/#", false),
            (Client::Master, "bramble/home/#", true),
            (Client::Master, "#", false),
            (Client::Viewer, "#", true),
            (Client::Viewer, "bramble/home/#", true),
            (Client::Viewer, "+/home/nodes/+/health", true),
            (Client::Viewer, "bramble/home/nodes/n1/down/#", false),
            (Client::Viewer, "bramble/home/nodes/+/down/head", false),
            (Client::Viewer, "bramble/home/nodes/+/up/call/#", false),
            (Client::Viewer, "bramble/home/nodes/+/up/#", true),
            (Client::Viewer, "homeassistant/#", false),
            (Client::Viewer, "$SYS/#", false),
        ] {
            assert_eq!(acl().may_subscribe(&client, filter), expected, "{client:?} {filter}");
        }
    }

    #[test]
    fn a_wide_filter_of_a_viewer_still_hides_shares_and_calls() {
        for (topic, expected) in [
            ("bramble/home/nodes/n1/health", true),
            ("bramble/home/nodes/n1/up/report", true),
            ("bramble/home/pods/default/web", true),
            ("bramble/home/nodes/n1/down/assignment", false),
            ("bramble/home/nodes/n1/down", false),
            ("bramble/home/nodes/n1/up/call/1/out", false),
            ("homeassistant/x", false),
        ] {
            assert_eq!(acl().may_receive(&Client::Viewer, topic), expected, "{topic}");
        }
    }

    #[test]
    fn a_certificate_says_who_comes() {
        for (name, groups, expected) in [
            ("bramble-master", vec![], Some(Client::Master)),
            ("n1", vec![], Some(node())),
            ("bramble-admin", vec!["system:masters".to_owned()], None),
            ("", vec![], None),
            ("a/b", vec![], None),
            ("+", vec![], None),
        ] {
            assert_eq!(Client::from_subject(name, &groups), expected, "{name}");
        }
    }

    #[test]
    fn a_client_id_begins_with_the_identity() {
        for (client_id, expected) in [("n1", true), ("n1-probe", true), ("n11", false), ("n2", false), ("", false)] {
            assert_eq!(node().may_be_called(client_id), expected, "{client_id}");
        }
        assert!(Client::Viewer.may_be_called("n1"));
    }
}
