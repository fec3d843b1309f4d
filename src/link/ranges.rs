//! Sets of IPv4 addresses, kept as the fewest ranges: what peers and targets of network policies come to on the wire.
//!
//! On the wire a list of texts in rising order, each an address or `first-last`:
//!
//! ```json
//! ["10.244.0.5", "10.244.1.7-10.244.1.9"]
//! ```
//!
//! Equal sets have equal texts, so that a set that is worked out anew makes no new share.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Addresses, as ranges that neither meet nor touch, in rising order. Costs 8 bytes a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Ranges(Vec<(u32, u32)>);

/// A text that is neither an address nor a range of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IPv4 address nor a range of them (first-last)")]
pub struct NoRange(String);

impl Ranges {
    /// Every address there is.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(0, u32::MAX)])
    }

    /// The addresses of a network, its first and last among them.
    #[must_use]
    pub fn net(net: Ipv4Net) -> Self {
        Self(vec![(net.network().into(), net.broadcast().into())])
    }

    /// Whether it is every address.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == [(0, u32::MAX)]
    }

    /// Whether no address is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        // The first range that begins behind it: only the one before can hold it.
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, last)| address <= *last)
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.0.into_iter().chain(other.0).collect()
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn but(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        for &(first, last) in &self.0 {
            let mut from = Some(first);
            for &(without, until) in other.0.iter().filter(|(without, until)| *without <= last && first <= *until) {
                let Some(begin) = from else { break };
                if let Some(before) = without.checked_sub(1).filter(|before| begin <= *before) {
                    rest.push((begin, before));
                }
                from = until.checked_add(1).filter(|next| *next <= last);
            }
            rest.extend(from.map(|from| (from, last)));
        }
        Self(rest)
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.but(&self.but(other))
    }

    /// Each address.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.0.iter().flat_map(|(first, last)| (*first..=*last).map(Ipv4Addr::from))
    }

    /// Each range as text: an address, or `first-last`.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|&(first, last)| match (Ipv4Addr::from(first), Ipv4Addr::from(last)) {
            (only, same) if only == same => only.to_string(),
            (first, last) => format!("{first}-{last}"),
        })
    }
}

impl FromIterator<(u32, u32)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Self {
        let mut sorted: Vec<(u32, u32)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }
}

impl FromIterator<Ipv4Addr> for Ranges {
    fn from_iter<I: IntoIterator<Item = Ipv4Addr>>(addresses: I) -> Self {
        addresses.into_iter().map(|address| (address.into(), address.into())).collect()
    }
}

impl TryFrom<Vec<String>> for Ranges {
    type Error = NoRange;

    fn try_from(texts: Vec<String>) -> Result<Self, NoRange> {
        let read = |text: &str| -> Option<(u32, u32)> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (Ipv4Addr, Ipv4Addr) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then(|| (first.into(), last.into()))
        };
        texts.into_iter().map(|text| read(&text).ok_or(NoRange(text))).collect()
    }
}

impl From<Ranges> for Vec<String> {
    fn from(ranges: Ranges) -> Self {
        ranges.texts().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(texts: &[&str]) -> Ranges {
        texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn equal_sets_have_equal_texts() {
        let set = ranges(&["10.0.0.9", "10.0.0.1-10.0.0.3", "10.0.0.2", "10.0.0.4", "0.0.0.0-0.0.0.1"]);
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["0.0.0.0-0.0.0.1","10.0.0.1-10.0.0.4","10.0.0.9"]"#);
        assert_eq!(ranges(&["0.0.0.0-127.255.255.255", "128.0.0.0-255.255.255.255"]), Ranges::all());
        for broken in [r#"["10.0.0"]"#, r#"["10.0.0.2-10.0.0.1"]"#, r#"["::1"]"#, r#"["10.0.0.1-"]"#, r#"[1]"#, r#""10.0.0.1""#] {
            assert!(serde_json::from_str::<Ranges>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_exception_leaves_what_is_around_it() {
        let left = Ranges::net("10.0.0.0/8".parse().unwrap()).but(&Ranges::net("10.1.0.0/16".parse().unwrap()));
        assert_eq!(left.texts().collect::<Vec<_>>(), ["10.0.0.0-10.0.255.255", "10.2.0.0-10.255.255.255"]);
        assert!(Ranges::all().but(&Ranges::all()).is_empty() && Ranges::all().is_all());
        let ends = Ranges::all().but(&ranges(&["0.0.0.0", "255.255.255.255"]));
        assert_eq!(ends.texts().collect::<Vec<_>>(), ["0.0.0.1-255.255.255.254"]);
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(a in prop::collection::vec((0u32..64, 0u32..9), 0..8), b in prop::collection::vec((0u32..64, 0u32..9), 0..8)) {
            let set = |list: &[(u32, u32)]| list.iter().map(|&(first, length)| (first, first + length)).collect::<Ranges>();
            let (a, b) = (set(&a), set(&b));
            for address in (0..80).map(Ipv4Addr::from) {
                let (left, right) = (a.contains(address), b.contains(address));
                prop_assert_eq!(a.addresses().any(|one| one == address), left);
                prop_assert_eq!(a.clone().or(b.clone()).contains(address), left || right);
                prop_assert_eq!(a.but(&b).contains(address), left && !right);
                prop_assert_eq!(a.and(&b).contains(address), left && right);
            }
            for made in [a.clone().or(b.clone()), a.but(&b), a.and(&b)] {
                prop_assert_eq!(Ranges::try_from(Vec::from(made.clone())).unwrap(), made);
            }
        }
    }
}
