//! What makes one ruleset into another: one transaction that touches only what is other.
//!
//! In:       the ruleset that the kernel holds, the one that it is to hold.
//! Out:      steps in an order that the kernel takes: what is named is there before it is named, and goes after.
//! Flow:     from `ruleset.rs`, on to `text.rs`.

use std::collections::BTreeMap;

use super::ruleset::{Chain, Hook, Key, Rule, Ruleset, SetKind, Verdict};

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The table, if it is not there.
    AddTable,
    /// The table with all that is in it.
    DeleteTable,
    /// An empty set.
    AddSet(&'a str, SetKind),
    /// A set that nobody names.
    DeleteSet(&'a str, SetKind),
    /// An empty chain.
    AddChain(&'a str, Option<Hook>),
    /// A chain without its rules.
    FlushChain(&'a str),
    /// A chain that nobody names.
    DeleteChain(&'a str),
    /// A rule at the end of a chain.
    AddRule(&'a str, &'a Rule),
    /// Into a set.
    AddElements(&'a str, SetKind, Vec<(Key, &'a Verdict)>),
    /// Out of a set.
    DeleteElements(&'a str, SetKind, Vec<(Key, &'a Verdict)>),
}

/// The whole table in place of whatever bears its name.
#[must_use]
pub fn whole(new: &Ruleset) -> Vec<Step<'_>> {
    // Deleting what is not there is a fault: so it is added first.
    let mut steps = vec![Step::AddTable, Step::DeleteTable, Step::AddTable];
    difference(None, new, &mut steps);
    steps
}

/// What is other; empty when nothing is.
#[must_use]
pub fn change<'a>(old: &'a Ruleset, new: &'a Ruleset) -> Vec<Step<'a>> {
    if (old.family, &old.table) != (new.family, &new.table) {
        return whole(new);
    }
    let mut steps = Vec::new();
    difference(Some(old), new, &mut steps);
    steps
}

fn difference<'a>(old: Option<&'a Ruleset>, new: &'a Ruleset, steps: &mut Vec<Step<'a>>) {
    static NONE: BTreeMap<Key, Verdict> = BTreeMap::new();
    let old_chain = |name: &str| old.and_then(|old| old.chains.get(name));
    let old_elements = |set: &str| old.and_then(|old| old.elements.get(set)).unwrap_or(&NONE);
    let new_sets = new.sets.iter().filter(|(name, _)| old.is_none_or(|old| !old.sets.contains_key(*name)));
    steps.extend(new_sets.map(|(name, kind)| Step::AddSet(name, *kind)));
    let new_chains = new.chains.iter().filter(|(name, _)| old_chain(name).is_none());
    steps.extend(new_chains.map(|(name, chain)| Step::AddChain(name, chain.hook)));
    for (set, elements) in old.iter().flat_map(|old| &old.elements) {
        let stays = new.elements.get(set).unwrap_or(&NONE);
        let gone: Vec<_> = elements
            .iter()
            .filter(|(key, verdict)| stays.get(key) != Some(verdict))
            .map(|(key, verdict)| (*key, verdict))
            .collect();
        if let Some(kind) = new.sets.get(set).filter(|_| !gone.is_empty()) {
            steps.push(Step::DeleteElements(set, *kind, gone));
        }
    }
    let lost = || old.iter().flat_map(|old| old.chains.keys()).filter(|name| !new.chains.contains_key(*name));
    steps.extend(lost().map(|name| Step::FlushChain(name)));
    for (name, chain) in &new.chains {
        let Chain { rules, .. } = chain;
        match old_chain(name) {
            Some(old) if old.rules == *rules => continue,
            Some(_) => steps.push(Step::FlushChain(name)),
            None => {}
        }
        steps.extend(rules.iter().map(|rule| Step::AddRule(name, rule)));
    }
    for (set, elements) in &new.elements {
        let had = old_elements(set);
        let added: Vec<_> = elements
            .iter()
            .filter(|(key, verdict)| had.get(key) != Some(verdict))
            .map(|(key, verdict)| (*key, verdict))
            .collect();
        if let Some(kind) = new.sets.get(set).filter(|_| !added.is_empty()) {
            steps.push(Step::AddElements(set, *kind, added));
        }
    }
    steps.extend(lost().map(|name| Step::DeleteChain(name)));
    let lost_sets = old.iter().flat_map(|old| &old.sets).filter(|(name, _)| !new.sets.contains_key(*name));
    steps.extend(lost_sets.map(|(name, kind)| Step::DeleteSet(name, *kind)));
}
