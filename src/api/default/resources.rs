//! Quantities as the API gives them back: text, in canonical form (`1000m` → `1`, `1024Mi` → `1Gi`, `0.5` → `500m`).
//!
//! Source:   apimachinery `Quantity.CanonicalizeBytes`; resource lists are rounded up to thousandths, as upstream does.

use serde_json::Value;

use super::Fields;
use crate::api::quantity::Quantity;

/// Writes all quantities of a resource list (`limits`, `requests`, …) in canonical form; what is no quantity is left alone.
pub(super) fn canonical_list(list: &mut Fields) {
    for value in list.values_mut() {
        canonical(value);
    }
}

/// Writes one quantity in canonical form; a JSON number becomes text.
pub(super) fn canonical(value: &mut Value) {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    if let Some(quantity) = Quantity::parse(&text) {
        *value = format(quantity, &text).into();
    }
}

const DECIMAL: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The amount in the family of suffixes that the text was written in.
fn format(quantity: Quantity, text: &str) -> String {
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'));
    let whole = quantity.milli % 1000 == 0;
    // Below 1024, or with a fraction, binary suffixes would lose something or confuse.
    if suffix.ends_with('i') && whole && quantity.milli.unsigned_abs() >= 1_024_000 {
        return shortest(quantity.milli / 1000, 1024, &BINARY);
    }
    if suffix.len() > 1 && suffix.starts_with(['e', 'E']) {
        let (mantissa, steps) = reduce(quantity.milli, 1000, usize::MAX);
        return match steps {
            1 => mantissa.to_string(),
            _ => format!("{mantissa}e{}", i64::try_from(steps).unwrap_or(i64::MAX).saturating_mul(3).saturating_sub(3)),
        };
    }
    shortest(quantity.milli, 1000, &DECIMAL)
}

/// The number with the largest suffix that leaves it whole.
fn shortest(number: i128, base: i128, suffixes: &[&str]) -> String {
    if number == 0 {
        return "0".to_owned();
    }
    let (mantissa, steps) = reduce(number, base, suffixes.len().saturating_sub(1));
    format!("{mantissa}{}", suffixes.get(steps).copied().unwrap_or_default())
}

fn reduce(mut number: i128, base: i128, most: usize) -> (i128, usize) {
    if number == 0 {
        return (0, 1);
    }
    let mut steps = 0;
    while steps < most && number % base == 0 {
        number /= base;
        steps += 1;
    }
    (number, steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_come_back_in_the_form_that_kubernetes_writes() {
        for (given, shown) in [
            (json!("1"), "1"),
            (json!(1), "1"),
            (json!(0.5), "500m"),
            (json!("1000m"), "1"),
            (json!("1500m"), "1500m"),
            (json!("1.5"), "1500m"),
            (json!("100m"), "100m"),
            (json!("0"), "0"),
            (json!("0Mi"), "0"),
            (json!("1024Mi"), "1Gi"),
            (json!("1.5Gi"), "1536Mi"),
            (json!("64Mi"), "64Mi"),
            (json!("0.5Ki"), "512"),
            (json!("1000000"), "1M"),
            (json!(1048576), "1048576"),
            (json!("128974848"), "128974848"),
            (json!("129e6"), "129e6"),
            (json!("1e3"), "1e3"),
            (json!("0e1"), "0"),
            (json!("129M"), "129M"),
            (json!("-1024Ki"), "-1Mi"),
            (json!("2E"), "2E"),
            (json!("100u"), "1m"),
        ] {
            let mut value = given.clone();
            canonical(&mut value);
            assert_eq!(value, json!(shown), "{given}");
            let before = value.clone();
            canonical(&mut value);
            assert_eq!(value, before, "{given} twice");
        }
    }

    #[test]
    fn what_is_no_quantity_is_left_for_validation() {
        for given in [json!("lots"), json!(""), json!(null), json!(["1"]), json!(true)] {
            let mut value = given.clone();
            canonical(&mut value);
            assert_eq!(value, given);
        }
    }
}
