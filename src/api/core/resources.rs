//! Amounts of CPU, memory and whatever else can be counted, as pods ask for them and nodes have them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::quantity::Quantity;

/// Amounts by name. The two that every pod has are fields, so that adding and comparing them is quick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `cpu`, in thousandths of a core.
    pub milli_cpu: i64,
    /// `memory`, in bytes.
    pub memory: i64,
    /// All others, in whole units; without `pods`.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a map of quantities (`requests`, `allocatable`, …). What does not parse counts as nothing: it was validated.
    #[must_use]
    pub fn read(map: Option<&Value>) -> Self {
        let mut out = Self::default();
        for (name, value) in map.and_then(Value::as_object).into_iter().flatten() {
            let Some(amount) = quantity(value) else { continue };
            match name.as_str() {
                "cpu" => out.milli_cpu = i64::try_from(amount.milli).unwrap_or(i64::MAX),
                "memory" => out.memory = amount.units(),
                "pods" => {}
                _ => {
                    out.others.insert(name.clone(), amount.units());
                }
            }
        }
        out
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_default();
            *slot = slot.saturating_add(*amount);
        }
    }

    /// Takes another away.
    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_sub(other.milli_cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        for (name, amount) in &other.others {
            if let Some(slot) = self.others.get_mut(name) {
                *slot = slot.saturating_sub(*amount);
            }
        }
    }

    /// Raises each amount to at least the other's.
    pub fn at_least(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_default();
            *slot = (*slot).max(*amount);
        }
    }

    /// The names, as `kubectl` knows them, of what `self` lacks to hold `asked` besides `used`.
    #[must_use]
    pub fn short_of(&self, used: &Self, asked: &Self) -> Vec<String> {
        let lacks = |have: i64, used: i64, asked: i64| asked > 0 && asked > have.saturating_sub(used);
        let mut out = Vec::new();
        if lacks(self.milli_cpu, used.milli_cpu, asked.milli_cpu) {
            out.push("cpu".to_owned());
        }
        if lacks(self.memory, used.memory, asked.memory) {
            out.push("memory".to_owned());
        }
        for (name, &amount) in &asked.others {
            let of = |from: &Self| from.others.get(name).copied().unwrap_or_default();
            if lacks(of(self), of(used), amount) {
                out.push(name.clone());
            }
        }
        out
    }
}

/// A quantity as text, or as the bare number that YAML makes of it.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_lacking_is_named() {
        let have = Resources::read(Some(&json!({"cpu": "1", "memory": "1Gi", "bramble/led": 1, "pods": "110"})));
        let used = Resources::read(Some(&json!({"cpu": "600m", "bramble/led": "1"})));
        for (asked, lacking) in [
            (json!({"cpu": "400m"}), vec![]),
            (json!({"cpu": "401m"}), vec!["cpu"]),
            (json!({"cpu": 1, "memory": "2Gi"}), vec!["cpu", "memory"]),
            (json!({"bramble/led": 1}), vec!["bramble/led"]),
            (json!({"vendor/none": 1}), vec!["vendor/none"]),
            (json!({"vendor/none": 0}), vec![]),
        ] {
            assert_eq!(have.short_of(&used, &Resources::read(Some(&asked))), lacking, "{asked}");
        }
    }
}
