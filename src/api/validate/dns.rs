//! How a pod finds names: `dnsPolicy`, `dnsConfig`, `hostAliases`.
//!
//! Source:   `validatePodDNSConfig`, `validateHostAliases` of core.

use std::net::IpAddr;

use super::at::At;
use super::{Errors, FieldError, each, name};

const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
/// All search paths together, with the spaces between them.
const SEARCH_CHARACTERS: usize = 2048;
const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Everything of a pod's `spec` that has to do with names.
pub(super) fn all(spec: &At<'_>, out: &mut Errors) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_set() {
            out.push(FieldError::required(&config.path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        } else if servers.len() == 0 {
            out.push(FieldError::required(&servers.path, "must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
    }
    if servers.len() > NAMESERVERS {
        out.push(servers.invalid(&format!("must not have more than {NAMESERVERS} nameservers")));
    }
    servers.items().for_each(|server| address(&server, out));
    if searches.len() > SEARCHES {
        out.push(searches.invalid(&format!("must not have more than {SEARCHES} search paths")));
    }
    let together: usize = searches.texts().map(|search| search.len() + 1).sum::<usize>().saturating_sub(1);
    if together > SEARCH_CHARACTERS {
        out.push(
            searches.invalid(&format!(
                "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
            )),
        );
    }
    for search in searches.items() {
        if search.text() == "." {
            continue;
        }
        // Names may have underscores here, as any letter, and end in a dot.
        let text = search.text().strip_suffix('.').unwrap_or(search.text()).replace('_', "a");
        each(&search, name::dns1123_subdomain(&text), out);
    }
    for option in config.get("options").items() {
        if option.get("name").text().is_empty() {
            out.push(FieldError::required(&option.path, "must not be empty"));
        }
    }
    for alias in spec.get("hostAliases").items() {
        address(&alias.get("ip"), out);
        for host in alias.get("hostnames").items() {
            each(&host, name::dns1123_subdomain(host.text()), out);
        }
    }
}

fn address(at: &At<'_>, out: &mut Errors) {
    if at.text().parse::<IpAddr>().is_err() {
        out.push(FieldError::invalid(&at.path, at.text(), ADDRESS));
    }
}
