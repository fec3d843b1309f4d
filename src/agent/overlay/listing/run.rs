//! Reads what of ours is in this machine's network, and removes what no living agent needs.

use std::collections::BTreeSet;

use super::super::netlink::{self, Families, NetlinkError};
use super::super::plan::Change;
use super::super::seen::Seen;
use super::super::{LINK_PREFIX, filter};
use super::{Kind, Thing, living, things};
use crate::agent::announce;
use crate::agent::exec::{self, ExecError};

/// Everything of ours in this network namespace. What cannot be asked (no `nft`, no `iptables`) has nothing of ours.
///
/// # Errors
/// When the kernel's links and routes cannot be read.
pub async fn list() -> Result<Vec<Thing>, NetlinkError> {
    Ok(look().await?.1)
}

async fn look() -> Result<(Seen, Vec<Thing>), NetlinkError> {
    let sockets = tokio::fs::read_to_string("/proc/net/unix").await.unwrap_or_default();
    let tables = exec::tables().await.unwrap_or_default();
    let mut rules = Vec::new();
    for (kind, program) in [(Kind::Rule, "iptables"), (Kind::Rule6, "ip6tables")] {
        rules.push((kind, exec::run(program, &["-w", "5", "-S"], "").await.unwrap_or_default()));
    }
    let seen = netlink::read(Families::Both).await?;
    let addresses = announce::netlink::all().await?;
    let things = things(&seen, &addresses, &tables, &rules, &living(&sockets));
    Ok((seen, things))
}

/// Why something stays.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// A link or a route.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A table.
    #[error("cannot remove {table}")]
    Table {
        /// Its family and name.
        table: String,
        /// Why.
        source: ExecError,
    },
    /// A rule.
    #[error("cannot remove the rule {rule:?}")]
    Rule {
        /// As it is listed.
        rule: String,
        /// Why.
        source: ExecError,
    },
}

/// Removes what no living agent needs, and says what that was. Routes first: a device that nothing leads by any more goes with them.
///
/// # Errors
/// At the first that stays.
pub async fn sweep() -> Result<Vec<Thing>, RemoveError> {
    let (seen, all) = look().await?;
    let mut gone: Vec<Thing> = all.into_iter().filter(|thing| !thing.needed && thing.kind != Kind::Bridge).collect();
    gone.sort_by_key(|thing| thing.kind != Kind::Route);
    for thing in &gone {
        match thing.kind {
            Kind::Route => {
                // Named as it is listed: nothing else is removed than what was told.
                let ours = seen.routes.iter().filter(|route| {
                    let name = format!("{}", route.to);
                    thing.name.starts_with(&name) && thing.name.ends_with(&format!("metric {}", route.metric))
                });
                netlink::apply(LINK_PREFIX, ours.copied().map(Change::RemoveRoute).collect()).await?;
            }
            Kind::Bridge => {}
            Kind::Link => {
                let device = seen.named(&thing.name).map(|(number, _)| Change::RemoveDevice(number));
                netlink::apply(LINK_PREFIX, device.into_iter().collect()).await?;
            }
            Kind::Address => {
                let label = thing.name.rsplit(' ').next().unwrap_or_default();
                announce::netlink::set(label, &BTreeSet::new()).await?;
            }
            Kind::Table => {
                let text =
                    thing.name.split_once(' ').map(|(family, table)| filter::removal_of(family, table)).unwrap_or_default();
                let failed = |source| RemoveError::Table { table: thing.name.clone(), source };
                exec::transaction(&text).await.map_err(failed)?;
            }
            Kind::Rule | Kind::Rule6 => {
                let words = joined(&thing.name);
                let rule = words.iter().skip(1).map(String::as_str);
                let arguments: Vec<&str> = ["-w", "5", "-D"].into_iter().chain(rule).collect();
                let program = if thing.kind == Kind::Rule { "iptables" } else { "ip6tables" };
                let failed = |source| RemoveError::Rule { rule: thing.name.clone(), source };
                exec::run(program, &arguments, "").await.map_err(failed)?;
            }
        }
    }
    Ok(gone)
}

/// A line of `iptables -S` in its words; what stands in quotes is one.
fn joined(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_in_its_words() {
        assert_eq!(
            joined("-A X -m comment --comment \"bramble 0a1b\" -j ACCEPT"),
            ["-A", "X", "-m", "comment", "--comment", "bramble 0a1b", "-j", "ACCEPT"]
        );
    }
}
