//! Sets of addresses of one family, kept as the fewest ranges: what peers and targets of network policies come to on the wire.
//!
//! On the wire a list of texts in rising order, each an address or `first-last`:
//!
//! ```json
//! ["10.244.0.5", "10.244.1.7-10.244.1.9"]
//! ```
//!
//! Equal sets have equal texts, so that a set that is worked out anew makes no new share.

use std::fmt::{Debug, Display};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// An address of IPv4 or IPv6.
pub trait Address: Copy + Ord + Debug + Display + FromStr {
    /// A network of such addresses.
    type Net: FromStr;
    /// The lowest and the highest there are.
    const ENDS: (Self, Self);
    /// The next higher one.
    fn next(self) -> Option<Self>;
    /// The next lower one.
    fn previous(self) -> Option<Self>;
    /// The first and the last address of a network.
    fn ends(net: Self::Net) -> (Self, Self);
    /// Of two sets, that of this family.
    fn pick<'a>(v4: &'a Ranges, v6: &'a Ranges<Ipv6Addr>) -> &'a Ranges<Self>;
}

impl Address for Ipv4Addr {
    type Net = Ipv4Net;
    const ENDS: (Self, Self) = (Self::UNSPECIFIED, Self::BROADCAST);

    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }

    fn ends(net: Ipv4Net) -> (Self, Self) {
        (net.network(), net.broadcast())
    }

    fn pick<'a>(v4: &'a Ranges, _: &'a Ranges<Ipv6Addr>) -> &'a Ranges {
        v4
    }
}

impl Address for Ipv6Addr {
    type Net = Ipv6Net;
    const ENDS: (Self, Self) = (Self::UNSPECIFIED, Self::from_bits(u128::MAX));

    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }

    fn ends(net: Ipv6Net) -> (Self, Self) {
        (net.network(), net.broadcast())
    }

    fn pick<'a>(_: &'a Ranges, v6: &'a Ranges<Ipv6Addr>) -> &'a Ranges<Ipv6Addr> {
        v6
    }
}

/// Addresses, as ranges that neither meet nor touch, in rising order. Costs 8 bytes a range, in IPv6 32.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>", bound = "A: Address")]
pub struct Ranges<A = Ipv4Addr>(Vec<(A, A)>);

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A text that is neither an address nor a range of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address of its family nor a range of them (first-last)")]
pub struct NoRange(String);

impl<A: Address> Ranges<A> {
    /// Every address there is.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![A::ENDS])
    }

    /// The addresses of a network, its first and last among them.
    #[must_use]
    pub fn net(net: A::Net) -> Self {
        Self(vec![A::ends(net)])
    }

    /// Whether it is every address.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == [A::ENDS]
    }

    /// Whether no address is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is in it.
    #[must_use]
    pub fn contains(&self, address: A) -> bool {
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
                if let Some(before) = without.previous().filter(|before| begin <= *before) {
                    rest.push((begin, before));
                }
                from = until.next().filter(|next| *next <= last);
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
    pub fn addresses(&self) -> impl Iterator<Item = A> + '_ {
        self.0.iter().flat_map(|(first, last)| {
            std::iter::successors(Some(*first), move |address| address.next().filter(|next| next <= last))
        })
    }

    /// Each range as text: an address, or `first-last`.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
    }
}

impl<A: Address> FromIterator<(A, A)> for Ranges<A> {
    fn from_iter<I: IntoIterator<Item = (A, A)>>(ranges: I) -> Self {
        let mut sorted: Vec<(A, A)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(A, A)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }
}

impl<A: Address> FromIterator<A> for Ranges<A> {
    fn from_iter<I: IntoIterator<Item = A>>(addresses: I) -> Self {
        addresses.into_iter().map(|address| (address, address)).collect()
    }
}

impl<A: Address> TryFrom<Vec<String>> for Ranges<A> {
    type Error = NoRange;

    fn try_from(texts: Vec<String>) -> Result<Self, NoRange> {
        let read = |text: &str| -> Option<(A, A)> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (A, A) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        };
        texts.into_iter().map(|text| read(&text).ok_or(NoRange(text))).collect()
    }
}

impl<A: Address> From<Ranges<A>> for Vec<String> {
    fn from(ranges: Ranges<A>) -> Self {
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
        let left = Ranges::<Ipv4Addr>::net("10.0.0.0/8".parse().unwrap()).but(&Ranges::net("10.1.0.0/16".parse().unwrap()));
        assert_eq!(left.texts().collect::<Vec<_>>(), ["10.0.0.0-10.0.255.255", "10.2.0.0-10.255.255.255"]);
        let all = Ranges::<Ipv4Addr>::all();
        assert!(all.but(&all).is_empty() && all.is_all());
        let ends = all.but(&ranges(&["0.0.0.0", "255.255.255.255"]));
        assert_eq!(ends.texts().collect::<Vec<_>>(), ["0.0.0.1-255.255.255.254"]);
    }

    #[test]
    fn ipv6_is_the_same_with_longer_addresses() {
        let net = |text: &str| Ranges::<Ipv6Addr>::net(text.parse().unwrap());
        let left = net("fd00::/64").but(&net("fd00::8000:0:0:0/65"));
        assert_eq!(serde_json::to_string(&left).unwrap(), r#"["fd00::-fd00::7fff:ffff:ffff:ffff"]"#);
        assert!(net("::/0").is_all() && !left.contains("fd00::8000:0:0:0".parse().unwrap()));
        assert_eq!(net("fd00::4/127").addresses().map(|one| one.to_string()).collect::<Vec<_>>(), ["fd00::4", "fd00::5"]);
        assert!(serde_json::from_str::<Ranges<Ipv6Addr>>(r#"["10.0.0.1"]"#).is_err());
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(a in prop::collection::vec((0u32..64, 0u32..9), 0..8), b in prop::collection::vec((0u32..64, 0u32..9), 0..8)) {
            let set = |list: &[(u32, u32)]| list.iter().map(|&(first, length)| (Ipv4Addr::from(first), Ipv4Addr::from(first + length))).collect::<Ranges>();
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
