//! Hands: plain LEDs, each on a pin of the header.

use std::sync::Arc;

use super::super::protocol::Output;
use super::super::{DriverError, Light};
use super::Hardware;
use super::worker::{Attempt, Part};

pub(super) struct PinPart {
    hardware: Arc<dyn Hardware>,
    leds: Vec<Slot>,
}

struct Slot {
    name: String,
    pin: u8,
    active_low: bool,
    output: Result<Box<dyn Output>, DriverError>,
}

fn not_yet() -> Result<Box<dyn Output>, DriverError> {
    Err(DriverError { words: String::new() })
}

impl PinPart {
    /// `leds`: name, pin, whether it is low when lit.
    pub(super) fn new(hardware: Arc<dyn Hardware>, leds: Vec<(String, u8, bool)>) -> Self {
        let leds = leds.into_iter().map(|(name, pin, active_low)| Slot { name, pin, active_low, output: not_yet() }).collect();
        Self { hardware, leds }
    }
}

impl Part for PinPart {
    fn show(&mut self, lights: &[Light], attempt: Attempt) -> Result<(), DriverError> {
        let mut faults: Vec<String> = Vec::new();
        for (slot, light) in self.leds.iter_mut().zip(lights) {
            let high = light.is_lit() != slot.active_low;
            if slot.output.is_err() && attempt == Attempt::Open {
                slot.output = self
                    .hardware
                    .output(slot.pin, high)
                    .map_err(|error| DriverError { words: format!("LED {:?}: {}", slot.name, error.words) });
            }
            let shown = match &mut slot.output {
                Ok(output) => output.set(high).map_err(|error| DriverError {
                    words: format!("LED {:?}: pin {} does not obey any more: {error}; see the kernel's log", slot.name, slot.pin),
                }),
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = shown {
                faults.push(error.words.clone());
                slot.output = Err(error);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(DriverError { words: shorter(&faults) }) }
    }

    fn works(&self) -> bool {
        self.leds.iter().any(|slot| slot.output.is_ok())
    }

    fn forget(&mut self) {
        // The other one may have left a pin as an input.
        self.leds.iter_mut().for_each(|slot| slot.output = not_yet());
    }

    fn leave(&mut self) {
        for slot in &mut self.leds {
            if let Ok(output) = &mut slot.output {
                let _ = output.set(slot.active_low);
            }
            // Dropping gives the pin back.
            slot.output = not_yet();
        }
    }
}

/// Eight pins that fail for one reason are one sentence.
fn shorter(faults: &[String]) -> String {
    let reason = |fault: &String| fault.split_once("\": ").map(|(_, reason)| reason.to_owned()).unwrap_or_default();
    let first = faults.first().cloned().unwrap_or_default();
    if faults.len() > 1 && faults.iter().all(|fault| reason(fault) == reason(&first)) {
        return format!("{} LEDs on pins: {}", faults.len(), reason(&first));
    }
    faults.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;

    fn part(bench: &Arc<Bench>) -> PinPart {
        let leds = vec![("node".into(), 21, false), ("pod-1".into(), 5, true)];
        PinPart::new(bench.clone(), leds)
    }

    #[test]
    fn a_lit_led_is_high_or_low_by_its_polarity_and_the_end_is_dark() {
        let bench = Arc::new(Bench::default());
        let mut part = part(&bench);
        part.show(&[Light::DARK; 2], Attempt::Open).unwrap();
        assert_eq!(bench.levels(), [(5, true), (21, false)]);
        part.show(&[Light { red: 1, green: 0, blue: 0 }, Light::white(255)], Attempt::AsIs).unwrap();
        assert_eq!(bench.levels(), [(5, false), (21, true)]);
        part.leave();
        assert_eq!(bench.levels(), [(5, true), (21, false)]);
    }

    #[test]
    fn a_pin_that_another_program_has_does_not_darken_the_others() {
        let bench = Arc::new(Bench::default());
        bench.refuse(21, "pin 21 is in use by \"relay\"; free it");
        let mut part = part(&bench);
        let told = part.show(&[Light::white(255); 2], Attempt::Open).unwrap_err().words;
        assert_eq!(told, "LED \"node\": pin 21 is in use by \"relay\"; free it");
        assert_eq!(bench.levels(), [(5, false)]);
        // It is freed: the next attempt has it.
        bench.refused.lock().unwrap().clear();
        assert!(part.show(&[Light::white(255); 2], Attempt::AsIs).is_err());
        part.show(&[Light::white(255); 2], Attempt::Open).unwrap();
        assert_eq!(bench.levels(), [(5, false), (21, true)]);
    }

    #[test]
    fn one_reason_for_all_pins_is_said_once() {
        let bench = Arc::new(Bench::default());
        bench.refuse(21, "no chip; load it");
        bench.refuse(5, "no chip; load it");
        assert_eq!(part(&bench).show(&[Light::DARK; 2], Attempt::Open).unwrap_err().words, "2 LEDs on pins: no chip; load it");
    }
}
