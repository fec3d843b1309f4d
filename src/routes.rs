//! The IPv4 routes of this machine, as the kernel tells them in `/proc/net/route`.
//!
//! Out:      each route's range, device, and whether it leads through another machine.
//! Never:    asks for any table but the main one; policy routing is out of its sight.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Our own routes: a thread has those of its network namespace.
const TABLE: &str = "/proc/thread-self/net/route";
/// Source: `RTF_UP`, `RTF_GATEWAY`, `RTF_REJECT` of `linux/route.h`.
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub range: Ipv4Net,
    /// Over which device.
    pub device: String,
    /// Whether another machine forwards it; what is not so is on the device's own network.
    pub forwarded: bool,
}

/// The routes that are told in a text like `/proc/net/route`; what cannot be read is left out, and so are default routes.
#[must_use]
pub fn parse(text: &str) -> Vec<Route> {
    text.lines().skip(1).filter_map(line).filter(|route| route.range.prefix_len() > 0).collect()
}

fn line(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    // As the machine keeps them in memory: the bytes are those of the address in this machine's order.
    let address = |text: &&str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let (to, mask) = (fields.get(1).and_then(address)?, fields.get(7).and_then(address)?);
    let range = Ipv4Net::with_netmask(to, mask).ok()?;
    let counts = flags & UP != 0 && flags & REJECT == 0;
    counts.then(|| Route {
        range,
        device: fields.first().map(|name| (*name).to_owned()).unwrap_or_default(),
        forwarded: flags & GATEWAY != 0,
    })
}

/// This machine's; none where the kernel does not tell.
#[must_use]
pub fn of_this_machine() -> Vec<Route> {
    parse(&std::fs::read_to_string(TABLE).unwrap_or_default())
}

/// Whether two ranges have an address in common.
#[must_use]
pub fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_read_and_nonsense_is_left_out() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            eth0\t0003F40A\t050200C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            *\t000000CB\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n\
            odd\tzz\t0\t1\n\nmask\t0003F40A\t0\t0001\t0\t0\t0\t00FF00FF\t0\t0\t0\n";
        let routes = parse(text);
        let told: Vec<_> = routes.iter().map(|route| format!("{} {} {}", route.range, route.device, route.forwarded)).collect();
        assert_eq!(told, ["172.17.0.0/16 docker0 false", "10.244.3.0/24 eth0 true"]);
    }

    #[test]
    fn this_machine_has_a_table() {
        assert!(of_this_machine().iter().all(|route| route.range.prefix_len() > 0));
        let range = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert!(overlap(&range("10.0.0.0/8"), &range("10.244.3.0/24")) && overlap(&range("10.244.3.0/24"), &range("10.0.0.0/8")));
        assert!(!overlap(&range("10.244.3.0/24"), &range("10.244.4.0/24")));
    }
}
