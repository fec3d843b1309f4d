//! The one table of what an LED tells (DESIGN §11): state → pattern and colour.
//!
//! In:       a state, a palette, how bright.
//! Out:      how it burns. The pattern alone tells the state: most LEDs have one colour, and many people do not see all of them.
//! Source:   the colour-blind palette is that of Okabe and Ito, "Color Universal Design", 2008: eight colours that people with any
//!           of the usual colour blindnesses tell apart.

use super::Light;
use super::pattern::Pattern;

/// What an LED tells. Of two pods on one LED the later one here is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing.
    #[default]
    Nothing,
    /// A pod serves.
    Ready,
    /// A pod is on its way, or its images are.
    Starting,
    /// A pod runs and is not ready, or is being ended.
    NotReady,
    /// A pod fails again and again.
    CrashLoop,
    /// The node has its link.
    Linked,
    /// The node has lost it.
    LinkLost,
    /// Somebody asked which board this is.
    Identify,
}

/// A colour as a screen shows it (sRGB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hue(pub u8, pub u8, pub u8);

/// Which colours LEDs of any colour burn in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// Green is good, red is bad.
    #[default]
    Standard,
    /// Okabe's and Ito's.
    ColourBlind,
}

impl State {
    /// The table.
    const fn row(self) -> (Pattern, Hue, Hue) {
        match self {
            //                                            standard           colour-blind
            State::Nothing => (Pattern::Off, Hue(0, 0, 0), Hue(0, 0, 0)),
            State::Ready => (Pattern::Solid, Hue(0, 255, 0), Hue(0, 158, 115)), // bluish green
            State::Starting => (Pattern::SlowBlink, Hue(0, 0, 255), Hue(86, 180, 233)), // sky blue
            State::NotReady => (Pattern::DoubleBlink, Hue(255, 165, 0), Hue(240, 228, 66)), // yellow
            State::CrashLoop => (Pattern::FastBlink, Hue(255, 0, 0), Hue(213, 94, 0)), // vermillion
            State::Linked => (Pattern::Solid, Hue(0, 255, 255), Hue(0, 114, 178)), // blue
            State::LinkLost => (Pattern::LongShort, Hue(255, 0, 255), Hue(204, 121, 167)), // reddish purple
            State::Identify => (Pattern::Identify, Hue(255, 255, 255), Hue(255, 255, 255)),
        }
    }

    /// How it burns.
    #[must_use]
    pub const fn pattern(self) -> Pattern {
        self.row().0
    }

    /// In which colour, where an LED has any.
    #[must_use]
    pub const fn hue(self, palette: Palette) -> Hue {
        match palette {
            Palette::Standard => self.row().1,
            Palette::ColourBlind => self.row().2,
        }
    }

    /// Whether it is a person's turn.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(self, State::CrashLoop | State::LinkLost)
    }
}

impl Hue {
    /// The same colour as light, its brightest part at `level`. An LED's light follows its value, a screen's does not: the numbers of
    /// a screen would look pale.
    ///
    /// Source: IEC 61966-2-1 (sRGB), the transfer function.
    #[must_use]
    pub fn light(self, level: u8) -> Light {
        let linear = |value: u8| {
            let value = f32::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let parts = [self.0, self.1, self.2].map(linear);
        let most = parts.into_iter().fold(0.0, f32::max);
        if most == 0.0 {
            return Light::DARK;
        }
        let [red, green, blue] = parts.map(|part| (part / most * f32::from(level)).round() as u8);
        Light { red, green, blue }
    }
}

/// Percent as the level of a light; what is above 0 never becomes dark.
#[must_use]
pub fn level(percent: u8) -> u8 {
    let level = u16::from(percent.min(100)) * 255 / 100;
    u8::try_from(level).unwrap_or(u8::MAX).max(u8::from(percent > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_PODS: [State; 5] = [State::Nothing, State::Ready, State::Starting, State::NotReady, State::CrashLoop];
    const OF_NODES: [State; 2] = [State::Linked, State::LinkLost];

    #[test]
    fn the_pattern_alone_tells_the_state() {
        for states in [&OF_PODS[..], &OF_NODES[..]] {
            for (index, one) in states.iter().enumerate() {
                for other in &states[index + 1..] {
                    assert_ne!(one.pattern(), other.pattern(), "{one:?} {other:?}");
                }
                assert_ne!(one.pattern(), Pattern::Identify);
            }
        }
    }

    #[test]
    fn states_differ_in_colour_too_in_every_palette() {
        for palette in [Palette::Standard, Palette::ColourBlind] {
            let lights: Vec<Light> = OF_PODS.iter().chain(&OF_NODES).map(|state| state.hue(palette).light(255)).collect();
            for (index, one) in lights.iter().enumerate() {
                assert!(!lights[index + 1..].contains(one), "{palette:?} {one:?}");
                assert!(index == 0 || one.level() == 255, "as bright as the others: {one:?}");
            }
        }
    }

    #[test]
    fn a_colour_of_a_screen_becomes_the_light_that_looks_like_it() {
        let light = |hue: Hue, level| {
            let light = hue.light(level);
            (light.red, light.green, light.blue)
        };
        assert_eq!(light(Hue(0, 255, 0), 255), (0, 255, 0));
        assert_eq!(light(Hue(255, 255, 255), 51), (51, 51, 51));
        // Vermillion: 213 is 0.665 of the light, 94 is 0.112 of it.
        assert_eq!(light(Hue(213, 94, 0), 255), (255, 43, 0));
        assert_eq!(light(Hue(0, 0, 0), 255), (0, 0, 0));
    }

    #[test]
    fn one_percent_is_not_dark_and_the_worse_state_is_the_greater() {
        assert_eq!([0, 1, 50, 100].map(level), [0, 2, 127, 255]);
        assert!(OF_PODS.is_sorted());
    }
}
