//! Kubernetes quantities: `500m`, `1.5`, `128Mi`, `2G`, `1e3`.
//!
//! Kept as thousandths, which is exact for every quantity that a pod can ask for; smaller parts are rounded up, as
//! upstream does. Source: apimachinery `resource.Quantity`.

/// An amount in thousandths of its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    /// Thousandths.
    pub milli: i128,
}

impl Quantity {
    /// Whole units.
    #[must_use]
    pub fn whole(units: i64) -> Self {
        Self { milli: i128::from(units) * 1000 }
    }

    /// Rounded up to whole units.
    #[must_use]
    pub fn units(self) -> i64 {
        let up = self.milli.div_euclid(1000) + i128::from(self.milli.rem_euclid(1000) != 0);
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }

    /// Reads a quantity; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 20 || fraction.len() > 12 || fraction.contains('.') {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        // value = mantissa * numerator / (denominator * 10^fraction), in thousandths
        let (numerator, denominator) = scale(suffix)?;
        let below = denominator.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
        let above = mantissa.checked_mul(numerator)?.checked_mul(1000)?;
        let milli = above.div_euclid(below) + i128::from(above.rem_euclid(below) != 0);
        Some(Self { milli: if negative { -milli } else { milli } })
    }
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Beyond an exa or an atto no quantity means anything.
            if power.unsigned_abs() > 18 {
                return None;
            }
            let factor = 10i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { milli: self.milli.saturating_add(other.milli) }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { milli: self.milli.saturating_sub(other.milli) }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, next| sum + next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_manifests_say() {
        for (text, milli) in [
            ("1", 1000),
            ("500m", 500),
            ("1.5", 1500),
            (".5", 500),
            ("0", 0),
            ("-2", -2000),
            ("1e3", 1_000_000),
            ("2E", 2_000_000_000_000_000_000_000),
            ("128Mi", 134_217_728_000),
            ("1Ki", 1_024_000),
            ("2k", 2_000_000),
            ("100u", 1),
            ("1e-3", 1),
        ] {
            assert_eq!(Quantity::parse(text), Some(Quantity { milli }), "{text}");
        }
        for text in ["", ".", "1.2.3", "abc", "1 Mi", "1mi", "١", "--1", "1e", "1e30", "99999999999999999999999"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn parts_of_a_unit_round_up() {
        assert_eq!(Quantity { milli: 1001 }.units(), 2);
        assert_eq!(Quantity { milli: -1500 }.units(), -1);
    }
}
