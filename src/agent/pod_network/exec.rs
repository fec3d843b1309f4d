//! Hands: this node's rules in the host's firewall, by `iptables` and `ip6tables`; what of all our tables and rules goes with the node;
//! and what the host has to allow before it forwards IPv6.

use std::io;
use std::path::Path;

use super::guard::{self, Guard};
use crate::agent::exec::{ExecError, run, tables, transaction};
use crate::agent::family::Family;

/// How long `iptables` waits for who holds its lock.
const LOCK_SECONDS: &str = "10";

/// Whether this agent can write tables at all: the right to it is CAP_NET_ADMIN, bit 12, and the program has to be here.
pub async fn can_write_tables() -> bool {
    let status = tokio::fs::read_to_string("/proc/self/status").await.unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let may = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & (1 << 12) != 0);
    may && run("nft", &["--version"], "").await.is_ok()
}

/// The programs by which a family's rules are told, and where the kernel names the tables of the older one.
struct Programs {
    nft: &'static str,
    legacy: &'static str,
    legacy_tables: &'static str,
    only: &'static str,
}

fn programs(family: Family) -> Programs {
    match family {
        Family::V4 => Programs {
            nft: "iptables-nft",
            legacy: "iptables-legacy",
            legacy_tables: "/proc/self/net/ip_tables_names",
            only: "iptables",
        },
        Family::V6 => Programs {
            nft: "ip6tables-nft",
            legacy: "ip6tables-legacy",
            legacy_tables: "/proc/self/net/ip6_tables_names",
            only: "ip6tables",
        },
    }
}

/// What each of a family's programs lists: Debian has two, for the two places in the kernel. The older place is asked only where it is
/// in use; to ask makes it. A host that has only one program calls it `iptables`.
async fn listings(family: Family) -> Result<Vec<(&'static str, String)>, ExecError> {
    let Programs { nft, legacy, legacy_tables, only } = programs(family);
    let used = std::fs::read_to_string(legacy_tables).unwrap_or_default().lines().any(|table| table == "filter");
    let mut listings = Vec::new();
    for program in [nft].into_iter().chain(used.then_some(legacy)) {
        match run(program, &["-w", LOCK_SECONDS, "-S"], "").await {
            Ok(text) => listings.push((program, text)),
            Err(ExecError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if listings.is_empty() {
        listings.push((only, run(only, &["-w", LOCK_SECONDS, "-S"], "").await?));
    }
    Ok(listings)
}

async fn call(program: &'static str, arguments: &[String]) -> Result<(), ExecError> {
    let arguments: Vec<&str> = ["-w", LOCK_SECONDS].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    run(program, &arguments, "").await.map(drop)
}

/// Lets through what is to be let through, where somebody drops it.
///
/// # Errors
/// When there is no `iptables`, or it refuses.
pub async fn let_through(guard: &Guard) -> Result<(), ExecError> {
    for (program, listing) in listings(guard.family()).await? {
        for arguments in guard.calls(&listing) {
            call(program, &arguments).await?;
        }
    }
    Ok(())
}

/// Takes away all rules of this node, and every table that bears its id, whichever part of the agent has made it. That there is no
/// such program, or no right to ask, is no fault: then there was none to make them either.
pub async fn remove(id: &str) {
    match tables().await {
        Ok(tables) => {
            let prefix = format!("bramble-{id}");
            let ours = |name: &str| name.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            for (family, name) in tables.iter().filter(|(_, name)| ours(name)) {
                if let Err(error) = transaction(&format!("delete table {family} {name}\n")).await {
                    tracing::warn!(table = name, %error, "a table stays; `nft delete table` removes it");
                }
            }
        }
        Err(error) => tracing::debug!(%error, "no table is removed"),
    }
    for family in [Family::V4, Family::V6] {
        remove_rules(family, id).await;
    }
}

/// Takes away this node's rules in that family.
pub async fn remove_rules(family: Family, id: &str) {
    match listings(family).await {
        Ok(listings) => {
            for (program, listing) in listings {
                for arguments in guard::removals(&listing, id) {
                    if let Err(error) = call(program, &arguments).await {
                        tracing::warn!(rule = arguments.join(" "), %error, "a rule stays");
                    }
                }
            }
        }
        Err(error) => tracing::debug!(%error, "no rule is removed"),
    }
}

/// The kernel's settings of IPv6, by interface.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Whether this host has IPv6 at all, and not switched off.
#[must_use]
pub fn has_ipv6() -> bool {
    let off = std::fs::read_to_string(format!("{SETTINGS}/all/disable_ipv6"));
    Path::new("/proc/net/if_inet6").exists() && off.is_ok_and(|off| off.trim() == "0")
}

/// Lets this host forward IPv6 packets. One that forwards takes itself for a router, and no longer hears what the LAN's router tells
/// (its addresses and its default route come from there) unless each interface is told to hear it all the same: that first.
///
/// Source: the kernel's ip-sysctl.rst, `accept_ra`: 1 hears unless forwarding, 2 hears also then. The interfaces are those with a
/// device below them and those that have a route from a router; never the pods' bridges, whose pods must not tell this host its routes.
///
/// # Errors
/// When a setting cannot be read or written.
pub async fn forward6() -> io::Result<()> {
    let routes = tokio::fs::read_to_string("/proc/net/ipv6_route").await.unwrap_or_default();
    let told = guard::told_by_a_router(&routes);
    let mut interfaces = tokio::fs::read_dir(SETTINGS).await?;
    while let Some(interface) = interfaces.next_entry().await? {
        let name = interface.file_name().to_string_lossy().into_owned();
        let hears = interface.path().join("accept_ra");
        let device = tokio::fs::try_exists(format!("/sys/class/net/{name}/device")).await.unwrap_or_default();
        // One that is unplugged in this moment has nothing to be told.
        if (device || told.contains(&name)) && tokio::fs::read_to_string(&hears).await.is_ok_and(|text| text.trim() == "1") {
            tokio::fs::write(&hears, "2").await?;
            tracing::info!(
                interface = name,
                "hears the router of this network also when this host forwards IPv6 (accept_ra = 2)"
            );
        }
    }
    let forwards = format!("{SETTINGS}/all/forwarding");
    if tokio::fs::read_to_string(&forwards).await?.trim() == "0" {
        tokio::fs::write(&forwards, "1").await?;
        tracing::info!("this host forwards IPv6 packets, as its pods need it (net.ipv6.conf.all.forwarding = 1)");
    }
    Ok(())
}
