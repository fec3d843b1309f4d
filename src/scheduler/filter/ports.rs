//! A port of the node is for one pod.

use super::{Candidate, Misfit, NodeInfo, Rule};

/// Whether all host ports of the pod are free.
///
/// # Errors
/// When one is taken.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let taken = pod.host_ports.iter().any(|wanted| node.ports.iter().any(|held| held.clashes(wanted)));
    if taken { Err(Misfit::new(Rule::Ports, "node(s) didn't have free ports for the requested pod ports")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, pod, verdict};
    use crate::api::core::pod::Pod;
    use serde_json::json;

    #[test]
    fn a_port_is_given_once() {
        let web = json!({"containers": [{"ports": [{"hostPort": 80}]}]});
        let mut busy = node(json!({}));
        assert_eq!(verdict(web.clone(), &busy), "");
        busy.ports.extend(Pod(&pod(web.clone())).host_ports());
        assert_eq!(verdict(web, &busy), "node(s) didn't have free ports for the requested pod ports");
        assert_eq!(verdict(json!({"containers": [{"ports": [{"hostPort": 81}]}]}), &busy), "");
    }
}
