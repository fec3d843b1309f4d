//! The two families of addresses: what differs between them in Kubernetes' words, in nft's, and in the kernel's numbers.

use std::net::IpAddr;

/// A family of addresses. Each has a table of its own in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// An address's.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// As `spec.ipFamilies` and an endpoint slice's `addressType` have it.
    #[must_use]
    pub fn kubernetes(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// nft's word: of tables, and of an address in a packet.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// nft's name for the type of an address.
    #[must_use]
    pub fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    /// The kernel's number (`NFPROTO_…`, which is `AF_…`).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// How many bytes an address has.
    #[must_use]
    pub fn length(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}
