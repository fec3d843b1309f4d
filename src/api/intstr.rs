//! `IntOrString`: `3` or `"25%"`.

use serde_json::Value;

/// The number that an int-or-percent stands for, of `total`; `None` when it is neither. Percentages round up or down.
#[must_use]
pub fn scaled(value: &Value, total: i64, round_up: bool) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let percent: i64 = value.as_str()?.strip_suffix('%')?.parse().ok()?;
    let product = percent.checked_mul(total)?;
    Some(if round_up { product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0) } else { product.div_euclid(100) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        assert_eq!(scaled(&"25%".into(), 3, true), Some(1));
        assert_eq!(scaled(&"25%".into(), 3, false), Some(0));
        assert_eq!(scaled(&2.into(), 3, false), Some(2));
        assert_eq!(scaled(&"two".into(), 3, false), None);
    }
}
