//! `[leds]`: how the LEDs show what they show.

use std::time::Duration;

use super::night::Hours;
use super::palette::Palette;
use crate::config::Reader;

/// `[leds]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `leds.overflow`.
    pub overflow: Overflow,
    /// `leds.page_seconds`: how long a page lasts.
    pub page: Duration,
    /// `leds.brightness_percent`: 1 to 100.
    pub brightness_percent: u8,
    /// `leds.night`.
    pub night: Option<Hours>,
    /// `leds.night_brightness_percent`: 0 to 100.
    pub night_brightness_percent: u8,
    /// `leds.night_alarms`: whether crash loops and a lost link burn at night as they do by day.
    pub night_alarms: bool,
    /// `leds.palette`.
    pub palette: Palette,
}

/// What is done when there are more pods than LEDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Pods share LEDs; each shows the worst of its pods.
    #[default]
    Worst,
    /// Pages of pods in turn.
    Page,
    /// Only pods that ask for an LED have one.
    Annotation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            overflow: Overflow::Worst,
            page: Duration::from_secs(4),
            brightness_percent: 100,
            night: None,
            night_brightness_percent: 0,
            night_alarms: false,
            palette: Palette::Standard,
        }
    }
}

impl Settings {
    /// Takes its keys.
    pub fn read(r: &mut Reader) -> Self {
        let usual = Self::default();
        let overflow = r.parsed("leds.overflow", "\"worst\", \"page\" or \"annotation\"", |text| match text {
            "worst" => Some(Overflow::Worst),
            "page" => Some(Overflow::Page),
            "annotation" => Some(Overflow::Annotation),
            _ => None,
        });
        let palette = r.parsed("leds.palette", "\"standard\" or \"colour-blind\"", |text| match text {
            "standard" => Some(Palette::Standard),
            "colour-blind" => Some(Palette::ColourBlind),
            _ => None,
        });
        let seconds = |text: &str| text.parse().ok().filter(|seconds: &u64| (1..=60).contains(seconds)).map(Duration::from_secs);
        let percent = |least: u8| move |text: &str| text.parse().ok().filter(|percent: &u8| (least..=100).contains(percent));
        Self {
            overflow: overflow.unwrap_or(usual.overflow),
            page: r.parsed("leds.page_seconds", "a whole number of seconds, 1 to 60", seconds).unwrap_or(usual.page),
            brightness_percent: r
                .parsed("leds.brightness_percent", "a whole number of percent, 1 to 100", percent(1))
                .unwrap_or(usual.brightness_percent),
            night: r.parsed("leds.night", Hours::EXPECTED, Hours::parse),
            night_brightness_percent: r
                .parsed("leds.night_brightness_percent", "a whole number of percent, 0 (dark) to 100", percent(0))
                .unwrap_or(usual.night_brightness_percent),
            night_alarms: r.switch("leds.night_alarms").unwrap_or(usual.night_alarms),
            palette: palette.unwrap_or(usual.palette),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(leds: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = leds.iter().map(|(key, value)| (format!("BRAMBLE_LEDS__{}", key.to_uppercase()), (*value).to_owned()));
        let mut reader = Reader::open(None, environment, &[]);
        let made = Settings::read(&mut reader);
        reader.finish(Some(made)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn each_key_is_read_and_nothing_is_the_usual() {
        assert_eq!(read(&[]), Ok(Settings::default()));
        let told = [
            ("overflow", "page"),
            ("page_seconds", "10"),
            ("brightness_percent", "30"),
            ("night", "22:00-07:00"),
            ("night_brightness_percent", "5"),
            ("night_alarms", "true"),
            ("palette", "colour-blind"),
        ];
        let expected = Settings {
            overflow: Overflow::Page,
            page: Duration::from_secs(10),
            brightness_percent: 30,
            night: Hours::parse("22:00-07:00"),
            night_brightness_percent: 5,
            night_alarms: true,
            palette: Palette::ColourBlind,
        };
        assert_eq!(read(&told), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (key, value, words) in [
            ("overflow", "scroll", "leds.overflow: expected \"worst\", \"page\" or \"annotation\", found the text \"scroll\""),
            ("page_seconds", "0", "leds.page_seconds: expected a whole number of seconds, 1 to 60"),
            ("brightness_percent", "0", "leds.brightness_percent: expected a whole number of percent, 1 to 100"),
            ("night", "22-7", "leds.night: expected from when to when, like \"22:00-07:00\""),
            ("night_brightness_percent", "101", "leds.night_brightness_percent: expected a whole number of percent, 0 (dark)"),
            ("night_alarms", "maybe", "leds.night_alarms: expected true or false"),
            ("palette", "pastel", "leds.palette: expected \"standard\" or \"colour-blind\""),
        ] {
            let told = read(&[(key, value)]).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }
}
