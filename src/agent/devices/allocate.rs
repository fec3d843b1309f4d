//! Which device each container gets.
//!
//! In:       what the containers of one pod ask for and have, what others have, the inventory.
//! Out:      the whole pod's devices, or the resource of which none is free.
//! Never:    takes a device from a container that has it: what runs keeps what it was given.
//!
//! A pod gets all of its devices at once or none, so that two pods never wait for each other. Devices that are asked for by name are
//! given first, and *any of a kind* is taken from those that nobody asks for by name while there are such. What an ordinary init
//! container had, a later container of the same pod gets; only one of the two runs at a time. Source: the kubelet's device manager
//! reuses init containers' devices in the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::Inventory;
use super::{Device, Held, Offer, PREFIX, any_of};

/// One container of a pod.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    /// Its name.
    pub container: &'a str,
    /// It ends before the next one starts.
    pub ends_first: bool,
    /// How many of each resource.
    pub wants: &'a BTreeMap<String, u64>,
    /// What it has already.
    pub has: &'a [Held],
}

/// What a pod's containers have, by name.
pub type Grant = BTreeMap<String, Vec<Held>>;

/// Gives a pod what it asks for. `taken` are keys of what other pods have, `named` of what others ask for by name.
///
/// # Errors
/// The resource of which not enough is free.
pub fn grant(
    asking: &[Asking<'_>],
    taken: &BTreeSet<String>,
    named: &BTreeSet<String>,
    inventory: &Inventory,
) -> Result<Grant, String> {
    let mut grant: Grant = asking.iter().map(|one| (one.container.to_owned(), one.has.to_vec())).collect();
    let ends_first: BTreeSet<&str> = asking.iter().filter(|one| one.ends_first).map(|one| one.container).collect();
    for by_name in [true, false] {
        for one in asking {
            for (resource, &wanted) in one.wants.iter().filter(|(resource, _)| any_of(resource).is_none() == by_name) {
                let has = |grant: &Grant, resource: &str| {
                    grant.get(one.container).map_or(0, |held| held.iter().filter(|held| held.resource == resource).count() as u64)
                };
                while has(&grant, resource) < wanted {
                    let found = choose(one, resource, &grant, &ends_first, taken, named, inventory);
                    let device = found.cloned().ok_or_else(|| resource.clone())?;
                    let held = grant.entry(one.container.to_owned()).or_default();
                    held.push(Held { resource: resource.clone(), device });
                }
            }
        }
    }
    grant.retain(|_, held| !held.is_empty());
    Ok(grant)
}

/// The device that a container gets next: first what an init container of its pod had, then what nobody asks for by name.
fn choose<'a>(
    one: &Asking<'_>,
    resource: &str,
    grant: &Grant,
    ends_first: &BTreeSet<&str>,
    taken: &BTreeSet<String>,
    named: &BTreeSet<String>,
    inventory: &'a Inventory,
) -> Option<&'a Device> {
    let holders = |key: &str| -> Vec<&str> {
        let holds = |held: &Vec<Held>| held.iter().any(|held| held.device.key() == key);
        grant.iter().filter(|(_, held)| holds(held)).map(|(container, _)| container.as_str()).collect()
    };
    inventory
        .iter()
        .filter(|device| fits(device, resource) && !taken.contains(&device.key()))
        .filter(|device| {
            let shares = |holder: &&str| *holder != one.container && (one.ends_first || ends_first.contains(holder));
            holders(&device.key()).iter().all(shares)
        })
        .min_by_key(|device| (holders(&device.key()).is_empty(), named.contains(&device.key())))
}

fn fits(device: &Device, resource: &str) -> bool {
    match any_of(resource) {
        Some(kind) => device.kind == kind,
        None => resource.strip_prefix(PREFIX) == Some(device.key().as_str()),
    }
}

/// What a node offers while these are held: what is held under one name cannot be had under the other.
///
/// Kubernetes' counts know one name each: the scheduler takes what pods *ask for* from `allocatable`. What they take under the other
/// name is taken from it here.
#[must_use]
pub fn offer<'a>(inventory: &Inventory, held: impl Iterator<Item = &'a Held>) -> Offer {
    let mut offer = inventory.offer();
    let mut counted = BTreeSet::new();
    for held in held {
        let key = held.device.key();
        // One that is gone is in no count; one that an init container passed on is counted once.
        if inventory.get(&key).is_none() || !counted.insert(key.clone()) {
            continue;
        }
        let other = match any_of(&held.resource) {
            Some(_) => format!("{PREFIX}{key}"),
            None => format!("{PREFIX}{}", held.device.kind.word()),
        };
        *offer.taken.entry(other).or_default() += 1;
    }
    offer
}

#[cfg(test)]
mod tests {
    use super::super::inventory::Seen;
    use super::super::{DeviceNode, is_device};
    use super::*;
    use proptest::prelude::*;

    fn sticks(names: &[&str]) -> Inventory {
        let seen = |(number, name): (usize, &&str)| {
            let path = format!("/dev/ttyUSB{number}");
            let node = DeviceNode { host: path.clone(), path, major: 188, minor: u32::try_from(number).unwrap() };
            Seen { node, link: Some(format!("/dev/serial/by-id/{name}")), ..Seen::default() }
        };
        Inventory::of(names.iter().enumerate().map(seen).collect())
    }

    fn wants(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(name, count)| (format!("bramble/{name}"), *count)).collect()
    }

    fn set(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn got(grant: &Grant, container: &str) -> Vec<String> {
        grant.get(container).into_iter().flatten().map(|held| held.device.name.clone()).collect()
    }

    #[test]
    fn by_name_first_and_any_from_what_nobody_names() {
        let inventory = sticks(&["a", "b", "c"]);
        let (any, b) = (wants(&[("serial", 1)]), wants(&[("serial-b", 1)]));
        let one = |container, wants| Asking { container, ends_first: false, wants, has: &[] };
        let both = grant(&[one("x", &any), one("y", &b)], &set(&[]), &set(&["serial-a"]), &inventory).unwrap();
        assert_eq!((got(&both, "x"), got(&both, "y")), (vec!["c".to_owned()], vec!["b".to_owned()]));
        // What somebody names is given when nothing else is left.
        let last = grant(&[one("x", &any)], &set(&["serial-b", "serial-c"]), &set(&["serial-a"]), &inventory).unwrap();
        assert_eq!(got(&last, "x"), ["a"]);
        assert_eq!(grant(&[one("y", &b)], &set(&["serial-b"]), &set(&[]), &inventory).unwrap_err(), "bramble/serial-b");
        assert_eq!(grant(&[one("x", &any)], &set(&[]), &set(&[]), &sticks(&[])).unwrap_err(), "bramble/serial");
    }

    #[test]
    fn what_a_container_has_stays_its_own() {
        let inventory = sticks(&["a", "b"]);
        let any = wants(&[("serial", 1)]);
        let b = Held { resource: "bramble/serial".into(), device: inventory.get("serial-b").unwrap().clone() };
        let has = std::slice::from_ref(&b);
        let again = grant(&[Asking { container: "x", ends_first: false, wants: &any, has }], &set(&[]), &set(&[]), &inventory);
        assert_eq!(got(&again.unwrap(), "x"), ["b"]);
    }

    #[test]
    fn an_init_container_passes_its_device_on() {
        let inventory = sticks(&["a"]);
        let any = wants(&[("serial", 1)]);
        let one = |container, ends_first| Asking { container, ends_first, wants: &any, has: &[] };
        let passed = grant(&[one("flash", true), one("run", false)], &set(&[]), &set(&[]), &inventory).unwrap();
        assert_eq!((got(&passed, "flash"), got(&passed, "run")), (vec!["a".to_owned()], vec!["a".to_owned()]));
        assert!(grant(&[one("side", false), one("run", false)], &set(&[]), &set(&[]), &inventory).is_err());
        let offer = offer(&inventory, passed.values().flatten());
        assert_eq!(offer.taken, BTreeMap::from([("bramble/serial-a".to_owned(), 1)]));
    }

    #[test]
    fn what_is_held_under_one_name_is_not_offered_under_the_other() {
        let inventory = sticks(&["a", "b"]);
        let held = |resource: &str, name: &str| Held {
            resource: format!("bramble/{resource}"),
            device: inventory.get(&format!("serial-{name}")).unwrap().clone(),
        };
        let by_name = [held("serial-a", "a")];
        assert_eq!(offer(&inventory, by_name.iter()).taken, BTreeMap::from([("bramble/serial".to_owned(), 1)]));
        let any = [held("serial", "b")];
        assert_eq!(offer(&inventory, any.iter()).taken, BTreeMap::from([("bramble/serial-b".to_owned(), 1)]));
        // Unplugged: neither name counts it.
        assert_eq!(offer(&sticks(&["b"]), by_name.iter()), sticks(&["b"]).offer());
    }

    proptest! {
        /// Pods come one after the other: no device is ever in two of them, and each has just what it asked for.
        #[test]
        fn no_device_is_given_twice(
            there in proptest::collection::btree_set(0u8..6, 0..6),
            pods in proptest::collection::vec(proptest::collection::vec((proptest::option::of(0u8..6), 1u64..3), 1..3), 0..5),
        ) {
            let names: Vec<String> = there.iter().map(|number| format!("s{number}")).collect();
            let inventory = sticks(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let mut taken = BTreeSet::new();
            for containers in pods {
                let containers: Vec<(String, BTreeMap<String, u64>)> = containers
                    .into_iter()
                    .enumerate()
                    .map(|(at, (named, count))| {
                        let wanted = named.map_or(("serial".to_owned(), count), |number| (format!("serial-s{number}"), 1));
                        (format!("c{at}"), wants(&[(&wanted.0, wanted.1)]))
                    })
                    .collect();
                let asking: Vec<Asking<'_>> = containers
                    .iter()
                    .map(|(container, wants)| Asking { container, ends_first: false, wants, has: &[] })
                    .collect();
                let Ok(grant) = grant(&asking, &taken, &BTreeSet::new(), &inventory) else { continue };
                for (container, wants) in &containers {
                    let held = &grant[container];
                    for (resource, count) in wants {
                        prop_assert!(is_device(resource));
                        prop_assert_eq!(held.iter().filter(|held| held.resource == *resource).count() as u64, *count);
                    }
                    for held in held {
                        prop_assert!(taken.insert(held.device.key()), "{} twice", held.device.key());
                    }
                }
            }
        }
    }
}
