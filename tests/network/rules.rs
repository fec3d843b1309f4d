//! What the kernel holds: our own batches against nft's, and differences against the whole.

use std::time::Duration;

use bramble::agent::family::Family;
use bramble::agent::proxy::change::whole;
use bramble::agent::proxy::ruleset::ruleset;
use bramble::agent::proxy::table::table;
use bramble::agent::proxy::text::text;
use bramble::link::share::Share;
use bramble::rng::Rng;
use serde_json::{Value, json};

use crate::lab::{Lab, Talk};
use crate::shares::{any, base, empty, empty6, here, service};

/// What nft lists, without what the kernel numbers by itself, in an order of its own.
fn listed(lab: &Lab, host: &str, family: Family) -> Vec<String> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("handle");
                map.remove("index");
                map.values_mut().for_each(strip);
                if let Some(Value::Array(elements)) = map.get_mut("elem") {
                    elements.sort_by_key(Value::to_string);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let all: Value =
        serde_json::from_str(&lab.inside(host, &format!("nft -j list table {} bramble-test", family.word()))).unwrap();
    let (mut rules, mut others) = (Vec::new(), Vec::new());
    for mut entry in all["nftables"].as_array().unwrap().clone() {
        strip(&mut entry);
        if let Some(rule) = entry.get("rule") {
            rules.push((rule["chain"].as_str().unwrap().to_owned(), rule.to_string()));
        } else if entry.get("metainfo").is_none() {
            others.push(entry.to_string());
        }
    }
    // Rules keep their order within a chain.
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    others.sort();
    others.extend(rules.into_iter().map(|(_, rule)| rule));
    others
}

fn as_nft(share: &Share, family: Family, bridge_filter: bool) -> String {
    text(family, "bramble-test", &whole(&ruleset(&base(family, bridge_filter), &table(share, &here(family)))))
}

fn line(share: &Share, bridge_filter: bool) -> String {
    json!([bridge_filter, share]).to_string()
}

#[test]
fn differences_by_our_batches_end_where_nft_loads_the_whole() {
    let mut lab = Lab::new("rules");
    lab.add("a");
    lab.add("b");
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut rng = Rng::seeded(seed, "rules");
    for (family, words) in [(Family::V4, "rules"), (Family::V6, "rules six")] {
        let mut ours = Talk::new(lab.part("a", words));
        for step in 0..30 {
            let (share, bridge_filter) = (any(&mut rng), rng.below(4) > 0);
            let said = ours.say(&line(&share, bridge_filter));
            assert!(said.starts_with("ok "), "seed {seed}, {family:?}, step {step}: {said}");
            lab.feed("b", "nft -f -", &as_nft(&share, family, bridge_filter));
            let (ours, nfts) = (listed(&lab, "a", family), listed(&lab, "b", family));
            let other: Vec<_> =
                ours.iter().filter(|line| !nfts.contains(line)).chain(nfts.iter().filter(|line| !ours.contains(line))).collect();
            assert!(ours == nfts, "seed {seed}, {family:?}, step {step}: {other:#?}");
        }
    }
}

#[test]
fn five_hundred_services_with_five_thousand_endpoints_are_loaded_in_one_transaction() {
    let mut lab = Lab::new("many");
    lab.add("a");
    let many = |words: &str, services: usize, changed: Option<usize>| {
        let mut share = if words == "rules" { empty() } else { empty6() };
        for number in 0..services {
            let ends: Vec<String> = (0..if changed == Some(number) { 9 } else { 10 })
                .map(|end| format!("10.244.{}.{}", (number * 10 + end) / 250, 2 + (number * 10 + end) % 250))
                .collect();
            let ends: Vec<(&str, &str)> = ends.iter().map(|end| (end.as_str(), "n2")).collect();
            let ip = format!("10.96.{}.{}", number / 250, 2 + number % 250);
            service(&mut share, &format!("s{number}"), &ip, 30000 + u16::try_from(number).unwrap(), json!({}), &ends);
        }
        share
    };
    for (services, words) in [(10, "rules"), (100, "rules"), (500, "rules"), (1000, "rules"), (1000, "rules six")] {
        let mut ours = Talk::new(lab.part("a", words));
        let loaded = ours.say(&line(&many(words, services, None), true));
        println!("{services} services, {words}, whole: {loaded}");
        assert!(loaded.starts_with("ok "), "{loaded}");
        let mut all = Vec::new();
        for change in 0..10 {
            let said = ours.say(&line(&many(words, services, Some(change)), true));
            assert!(said.starts_with("ok "), "{said}");
            all.push(said.rsplit_once("all=").unwrap().1.trim_end_matches("us").parse::<u64>().unwrap());
        }
        all.sort_unstable();
        println!("{services} services, {words}, one change: median {} us, most {} us", all[5], all[9]);
        // Far above what is measured: this is an unoptimised program on a machine that does much else.
        assert!(Duration::from_micros(all[5]) < Duration::from_secs(2), "{all:?}");
    }
}
