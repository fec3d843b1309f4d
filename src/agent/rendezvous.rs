//! Which one of several nodes does something that one alone shall do, without their asking each other.
//!
//! Each node weighs all candidates with the thing's name, and the heaviest does it (rendezvous hashing): all that know the same nodes
//! choose the same one, things are spread over the nodes, and when a node goes only what it did moves.

use crate::link::share::digest_of;

/// The chosen one of the candidates; `None` when there is none.
pub fn chosen<'a>(thing: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates.max_by_key(|node| digest_of(format!("{thing}/{node}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn all_choose_the_same_and_only_what_the_one_that_goes_did_moves() {
        let nodes = ["a", "b", "c", "d"];
        let of = |nodes: &[&'static str]| -> BTreeMap<String, &str> {
            (0..400).map(|n| (format!("n{n}"), chosen(&format!("n{n}"), nodes.iter().copied()).unwrap())).collect()
        };
        let before = of(&nodes);
        assert_eq!(before, of(&["d", "b", "a", "c"]), "in any order");
        for node in nodes {
            let share = before.values().filter(|one| **one == node).count();
            assert!((60..140).contains(&share), "{node} {share}");
        }
        let after = of(&["a", "b", "d"]);
        assert!(before.iter().all(|(name, node)| *node == "c" || after[name] == *node));
        assert_eq!(chosen("x", std::iter::empty()), None);
    }
}
