//! What the kernel holds: our own batches against nft's, and differences against the whole.

use std::time::Duration;

use bramble::agent::proxy::change::whole;
use bramble::agent::proxy::ruleset::ruleset;
use bramble::agent::proxy::table::table;
use bramble::agent::proxy::text::text;
use bramble::link::share::Share;
use bramble::rng::Rng;
use serde_json::{Value, json};

use crate::lab::{Lab, Talk};
use crate::shares::{any, base, empty, here, service};

const LIST: &str = "nft -j list table ip bramble-test";

/// What nft lists, without what the kernel numbers by itself, in an order of its own.
fn listed(lab: &Lab, host: &str) -> Vec<String> {
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
    let all: Value = serde_json::from_str(&lab.inside(host, LIST)).unwrap();
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

fn as_nft(share: &Share, bridge_filter: bool) -> String {
    text("bramble-test", &whole(&ruleset(&base(bridge_filter), &table(share, &here()))))
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
    let mut ours = Talk::new(lab.part("a", "rules"));
    for step in 0..30 {
        let (share, bridge_filter) = (any(&mut rng), rng.below(4) > 0);
        let said = ours.say(&line(&share, bridge_filter));
        assert!(said.starts_with("ok "), "seed {seed}, step {step}: {said}");
        lab.feed("b", "nft -f -", &as_nft(&share, bridge_filter));
        let (ours, nfts) = (listed(&lab, "a"), listed(&lab, "b"));
        let other: Vec<_> =
            ours.iter().filter(|line| !nfts.contains(line)).chain(nfts.iter().filter(|line| !ours.contains(line))).collect();
        assert!(ours == nfts, "seed {seed}, step {step}: {other:#?}");
    }
}

#[test]
fn five_hundred_services_with_five_thousand_endpoints_are_loaded_in_one_transaction() {
    let mut lab = Lab::new("many");
    lab.add("a");
    let many = |services: usize, changed: Option<usize>| {
        let mut share = empty();
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
    for services in [10, 100, 500, 1000] {
        let mut ours = Talk::new(lab.part("a", "rules"));
        let loaded = ours.say(&line(&many(services, None), true));
        println!("{services} services, whole: {loaded}");
        assert!(loaded.starts_with("ok "), "{loaded}");
        let mut all = Vec::new();
        for change in 0..10 {
            let said = ours.say(&line(&many(services, Some(change)), true));
            assert!(said.starts_with("ok "), "{said}");
            all.push(said.rsplit_once("all=").unwrap().1.trim_end_matches("us").parse::<u64>().unwrap());
        }
        all.sort_unstable();
        println!("{services} services, one change: median {} us, most {} us", all[5], all[9]);
        // Far above what is measured: this is an unoptimised program on a machine that does much else.
        assert!(Duration::from_micros(all[5]) < Duration::from_secs(2), "{all:?}");
    }
}
