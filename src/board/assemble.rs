//! Puts HATs on a board: one list of LEDs, and nothing taken twice.
//!
//! In:       a [`Board`] and the [`Hat`]s on it, in the order of the setting `leds.hats`.
//! Out:      the board with their LEDs, or every clash.

use super::claim::{Claim, clashes, missing, with_pins};
use super::keys::Fault;
use super::{Board, BoardError, Hat, Led, Place, Shows};

impl Board {
    /// The board with these HATs on it.
    ///
    /// * What a HAT shows, the board's own LEDs of the kernel's class need not: one that shows the node gives way to a HAT's LED for
    ///   the node, those that show pods to a HAT's LEDs for pods. They are in [`Board::resting`] then.
    /// * The first LED for the node shows it; further ones show pods.
    /// * A name that is taken is put behind its HAT's name: `blinkt-pod-1`.
    ///
    /// # Errors
    /// With every pin, bus, chip and LED of the kernel's that is used twice, and every pin and bus that the header does not have.
    pub fn with_hats(mut self, hats: &[Hat]) -> Result<Self, BoardError> {
        let own = format!("board {:?}", self.name);
        let claims = self.claims.iter().map(|claim| Claim { file: own.clone(), ..claim.clone() });
        let claims: Vec<Claim> = claims.chain(hats.iter().flat_map(claims_of)).collect();
        let taken = |claims: &[Claim]| with_pins(claims, &self.gpio_chips);
        let mut faults = clashes(&taken(&claims));
        let of_hats: Vec<Claim> = hats.iter().flat_map(claims_of).collect();
        faults.extend(missing(&taken(&of_hats), &self.header_pins, &self.gpio_chips));
        faults.extend(twice(hats));
        if !faults.is_empty() {
            return Err(BoardError::Content(faults));
        }
        let shown = |shows: Shows| hats.iter().flat_map(|hat| &hat.leds).any(|led| led.shows == shows);
        let (node, pod) = (shown(Shows::Node), shown(Shows::Pod));
        let gives_way = |led: &Led| {
            matches!(led.place, Place::Class(_))
                && match led.shows {
                    Shows::Node => node,
                    Shows::Pod => pod,
                }
        };
        let (resting, mut leds): (Vec<Led>, Vec<Led>) = self.leds.into_iter().partition(gives_way);
        for hat in hats {
            let first = self.strips.len();
            for led in &hat.leds {
                let mut led = led.clone();
                if let Place::Pixel { strip, .. } = &mut led.place {
                    *strip += first;
                }
                if led.shows == Shows::Node && leds.iter().any(|other| other.shows == Shows::Node) {
                    led.shows = Shows::Pod;
                }
                led.name = free_name(&leds, led.name, &hat.name);
                leds.push(led);
            }
            self.strips.extend(hat.strips.iter().cloned());
            self.hats.push(hat.name.clone());
        }
        (self.leds, self.resting, self.claims) = (leds, resting, claims);
        Ok(self)
    }
}

fn claims_of(hat: &Hat) -> impl Iterator<Item = Claim> {
    hat.claims.iter().map(|claim| Claim { file: format!("HAT {:?}", hat.name), ..claim.clone() })
}

/// HATs that are listed twice. Most clash by a pin; one without any would not.
fn twice(hats: &[Hat]) -> Vec<Fault> {
    let again = hats.iter().enumerate().filter(|(index, hat)| hats.iter().take(*index).any(|other| other.name == hat.name));
    let fault = |hat: &Hat| Fault {
        file: format!("HAT {:?}", hat.name),
        line: 1,
        key: "name".to_owned(),
        what: "it is there twice".to_owned(),
    };
    again.map(|(_, hat)| fault(hat)).collect()
}

fn free_name(leds: &[Led], name: String, hat: &str) -> String {
    let is_free = |name: &str| leds.iter().all(|led| led.name != name);
    if is_free(&name) {
        return name;
    }
    let name = format!("{hat}-{name}");
    // A board may have an LED of that name by chance.
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(numbered).find(|name| is_free(name)).unwrap_or(name)
}
