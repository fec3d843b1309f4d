//! Hands: this node's rules in the host's firewall, by `iptables`, and what of all our tables and rules goes with the node.

use super::guard::{self, Guard};
use crate::agent::exec::{ExecError, run, tables, transaction};

/// How long `iptables` waits for who holds its lock.
const LOCK_SECONDS: &str = "10";

/// Whether this agent can write tables at all: the right to it is CAP_NET_ADMIN, bit 12, and the program has to be here.
pub async fn can_write_tables() -> bool {
    let status = tokio::fs::read_to_string("/proc/self/status").await.unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let may = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & (1 << 12) != 0);
    may && run("nft", &["--version"], "").await.is_ok()
}

/// The programs by which this host's `iptables` rules are told: Debian has two, for the two places in the kernel. The older place is
/// asked only where it is in use; to ask makes it.
fn iptables_programs() -> Vec<&'static str> {
    let legacy = std::fs::read_to_string("/proc/self/net/ip_tables_names").unwrap_or_default();
    let mut programs = vec!["iptables-nft"];
    if legacy.lines().any(|table| table == "filter") {
        programs.push("iptables-legacy");
    }
    programs
}

/// What each of them lists. A host that has only one calls it `iptables`.
async fn listings() -> Result<Vec<(&'static str, String)>, ExecError> {
    let mut listings = Vec::new();
    for program in iptables_programs() {
        match run(program, &["-w", LOCK_SECONDS, "-S"], "").await {
            Ok(text) => listings.push((program, text)),
            Err(ExecError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if listings.is_empty() {
        listings.push(("iptables", run("iptables", &["-w", LOCK_SECONDS, "-S"], "").await?));
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
    for (program, listing) in listings().await? {
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
    match listings().await {
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
