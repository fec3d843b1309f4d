//! One change of one service, while many are there: decided from the share anew, and given to the kernel as one transaction.

use std::time::Duration;

use serde_json::Value;

use super::lab::Lab;
use super::shares::{ENDPOINTS, many};
use crate::Setup;
use crate::table::{Table, milliseconds, quantiles};

/// At 10, 100 and 1,000 services.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let mut lab = Lab::new();
    lab.add("node")?;
    for services in [10, 100, 1000] {
        let mut rules = lab.start("node", "rules")?;
        let mut apply = |changed: Option<usize>| -> anyhow::Result<[Duration; 2]> {
            rules.tell(&serde_json::to_string(&many(services, changed)?)?)?;
            let said: Value = serde_json::from_str(&rules.line()?)?;
            let at = |key: &str| Duration::from_nanos(said.get(key).and_then(Value::as_u64).unwrap_or_default());
            Ok([at("decided"), at("all")])
        };
        let [_, whole] = apply(None)?;
        let (mut decided, mut all) = (Vec::new(), Vec::new());
        // Each puts an endpoint back and takes one away of another service.
        for change in 0..setup.choose(50, 10) {
            let [one, both] = apply(Some(change * 7 % services))?;
            decided.push(one);
            all.push(both);
        }
        table.row(
            &format!("one change of the services, {services} there"),
            "20 ms",
            &format!("{} (deciding {})", quantiles(&all), quantiles(&decided)),
            &format!(
                "{} changes in two services of {ENDPOINTS} endpoints, from the share to the kernel's commit; \
                 all of them at the agent's start {}",
                all.len(),
                milliseconds(whole)
            ),
        );
    }
    Ok(())
}
