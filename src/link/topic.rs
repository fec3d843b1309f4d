//! Every topic of the link, built and parsed in one place (DESIGN §7).
//!
//! `<base>` is `bramble/<cluster>`; a node's topics are `<base>/nodes/<node>/…`.

use std::fmt;

/// One of a node's topics, below `<base>/nodes/<node>/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeTopic {
    /// `availability`, retained, the node's will: `online` or `offline`.
    Availability,
    /// `info`, retained: [`super::message::Info`].
    Info,
    /// `health`, retained: [`super::message::Health`].
    Health,
    /// `up/report`: [`super::message::Report`].
    Report,
    /// `up/leds`, retained: what each LED shows, for drawings.
    Leds,
    /// `up/ask`: [`super::message::Ask`].
    Ask,
    /// `up/call/<id>/data`: [`super::message::StreamFrame`].
    CallData(String),
    /// `down/head`, retained: [`super::message::Head`].
    Head,
    /// `down/assignment`: [`super::message::Assignment`].
    Assignment,
    /// `down/net/head`, retained: [`super::message::Head`] of the network's share.
    NetHead,
    /// `down/net/assignment`: [`super::message::Assignment`] of the network's share.
    NetAssignment,
    /// `up/net/ask`: [`super::message::Ask`] for the network's share.
    NetAsk,
    /// `down/ask`: the node is to report everything; empty object.
    AskAll,
    /// `down/call/<id>/request`: [`super::message::CallRequest`].
    CallRequest(String),
    /// `down/call/<id>/credit`: [`super::message::Credit`].
    CallCredit(String),
}

impl fmt::Display for NodeTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeTopic::Availability => f.write_str("availability"),
            NodeTopic::Info => f.write_str("info"),
            NodeTopic::Health => f.write_str("health"),
            NodeTopic::Report => f.write_str("up/report"),
            NodeTopic::Leds => f.write_str("up/leds"),
            NodeTopic::Ask => f.write_str("up/ask"),
            NodeTopic::CallData(id) => write!(f, "up/call/{id}/data"),
            NodeTopic::Head => f.write_str("down/head"),
            NodeTopic::Assignment => f.write_str("down/assignment"),
            NodeTopic::NetHead => f.write_str("down/net/head"),
            NodeTopic::NetAssignment => f.write_str("down/net/assignment"),
            NodeTopic::NetAsk => f.write_str("up/net/ask"),
            NodeTopic::AskAll => f.write_str("down/ask"),
            NodeTopic::CallRequest(id) => write!(f, "down/call/{id}/request"),
            NodeTopic::CallCredit(id) => write!(f, "down/call/{id}/credit"),
        }
    }
}

impl NodeTopic {
    fn parse(rest: &str) -> Option<Self> {
        Some(match rest {
            "availability" => NodeTopic::Availability,
            "info" => NodeTopic::Info,
            "health" => NodeTopic::Health,
            "up/report" => NodeTopic::Report,
            "up/leds" => NodeTopic::Leds,
            "up/ask" => NodeTopic::Ask,
            "down/head" => NodeTopic::Head,
            "down/assignment" => NodeTopic::Assignment,
            "down/net/head" => NodeTopic::NetHead,
            "down/net/assignment" => NodeTopic::NetAssignment,
            "up/net/ask" => NodeTopic::NetAsk,
            "down/ask" => NodeTopic::AskAll,
            call => {
                let mut levels = call.split('/');
                let (direction, "call", id, last, None) =
                    (levels.next()?, levels.next()?, levels.next()?.to_owned(), levels.next()?, levels.next())
                else {
                    return None;
                };
                match (direction, last) {
                    ("up", "data") => NodeTopic::CallData(id),
                    ("down", "request") => NodeTopic::CallRequest(id),
                    ("down", "credit") => NodeTopic::CallCredit(id),
                    _ => return None,
                }
            }
        })
    }
}

/// The topics of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    base: String,
}

impl Topics {
    /// Of the cluster of this name.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        Self { base: format!("bramble/{cluster}") }
    }

    /// `bramble/<cluster>`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A topic of a node.
    #[must_use]
    pub fn node(&self, node: &str, topic: &NodeTopic) -> String {
        format!("{}/nodes/{node}/{topic}", self.base)
    }

    /// Which node's topic this is; `None` for all others.
    #[must_use]
    pub fn parse<'a>(&self, topic: &'a str) -> Option<(&'a str, NodeTopic)> {
        let rest = topic.strip_prefix(self.base.as_str())?.strip_prefix("/nodes/")?;
        let (node, rest) = rest.split_once('/')?;
        (!node.is_empty()).then_some((node, NodeTopic::parse(rest)?))
    }

    /// What a node listens to: its own `availability` (so that it can contradict a stale will) and `down/#`.
    #[must_use]
    pub fn node_filters(&self, node: &str) -> Vec<String> {
        vec![self.node(node, &NodeTopic::Availability), format!("{}/nodes/{node}/down/#", self.base)]
    }

    /// What the master listens to.
    #[must_use]
    pub fn master_filters(&self) -> Vec<String> {
        ["availability", "info", "health", "up/#"].iter().map(|last| format!("{}/nodes/+/{last}", self.base)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_parsed_as_it_was_built() {
        let topics = Topics::new("home");
        for topic in [
            NodeTopic::Availability,
            NodeTopic::Info,
            NodeTopic::Health,
            NodeTopic::Report,
            NodeTopic::Leds,
            NodeTopic::Ask,
            NodeTopic::CallData("c1".into()),
            NodeTopic::Head,
            NodeTopic::Assignment,
            NodeTopic::NetHead,
            NodeTopic::NetAssignment,
            NodeTopic::NetAsk,
            NodeTopic::AskAll,
            NodeTopic::CallRequest("c1".into()),
            NodeTopic::CallCredit("c1".into()),
        ] {
            assert_eq!(topics.parse(&topics.node("pi-1", &topic)), Some(("pi-1", topic)));
        }
        assert_eq!(topics.node("pi-1", &NodeTopic::Head), "bramble/home/nodes/pi-1/down/head");
    }

    #[test]
    fn foreign_topics_are_nobodys() {
        let topics = Topics::new("home");
        for topic in [
            "",
            "bramble/home",
            "bramble/homes/nodes/a/info",
            "bramble/home/nodes//info",
            "bramble/home/nodes/a",
            "bramble/home/nodes/a/up/call/1",
            "bramble/home/nodes/a/up/call/1/data/more",
            "bramble/home/nodes/a/up/call/1/request",
            "bramble/home/bridge/state",
        ] {
            assert_eq!(topics.parse(topic), None, "{topic}");
        }
    }
}
