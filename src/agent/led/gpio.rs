//! Hands: LEDs on GPIO pins through `rppal`, or none where there are no pins.

use super::{Driver, NoPins};
use crate::board::Board;

/// What burns the LEDs of this board, and what to say once about it: on something that is no Pi, or without the right to its
/// pins, there are none, and pods do not mind.
#[must_use]
pub fn driver(board: &Board) -> (Box<dyn Driver>, Option<String>) {
    if board.leds.iter().all(|led| led.pin.is_none()) {
        let words = (board.name != "simulated").then(|| format!("board {}: no LEDs; pods run without", board.name));
        return (Box::new(NoPins), words);
    }
    match pins::open(board) {
        Ok(driver) => (driver, None),
        Err(words) => (Box::new(NoPins), Some(words)),
    }
}

/// No LEDs, because the owner wants none.
#[must_use]
pub fn none() -> (Box<dyn Driver>, Option<String>) {
    (Box::new(NoPins), None)
}

#[cfg(feature = "gpio")]
mod pins {
    use super::super::{DriverError, Light};
    use super::{Board, Driver};
    use rppal::gpio::{Gpio, OutputPin};

    struct Pins {
        /// As the board lists them; `None` where an LED has no pin.
        pins: Vec<Option<(OutputPin, bool)>>,
    }

    pub(super) fn open(board: &Board) -> Result<Box<dyn Driver>, String> {
        let gpio = Gpio::new().map_err(|error| {
            format!(
                "cannot use the GPIO pins of board {}: {error}; is the agent in the group gpio, and /dev/gpiomem there?",
                board.name
            )
        })?;
        let mut pins = Vec::with_capacity(board.leds.len());
        for led in &board.leds {
            let pin = match led.pin {
                None => None,
                Some(number) => {
                    let pin = gpio.get(number).map_err(|error| {
                        format!(
                            "LED {:?}: cannot use pin {number}: {error}; free the pin or take the LED out of the board file",
                            led.name
                        )
                    })?;
                    Some((if led.active_low { pin.into_output_high() } else { pin.into_output_low() }, led.active_low))
                }
            };
            pins.push(pin);
        }
        Ok(Box::new(Pins { pins }))
    }

    impl Driver for Pins {
        fn show(&mut self, frame: &[Light]) -> Result<(), DriverError> {
            for (pin, light) in self.pins.iter_mut().zip(frame) {
                if let Some((pin, active_low)) = pin {
                    if light.is_lit() == *active_low { pin.set_low() } else { pin.set_high() }
                }
            }
            Ok(())
        }

        fn leave(&mut self) {
            let dark = vec![Light::DARK; self.pins.len()];
            // A pin that is set cannot fail; rppal gives them back when they are dropped.
            let _ = self.show(&dark);
        }
    }
}

#[cfg(not(feature = "gpio"))]
mod pins {
    use super::{Board, Driver};

    pub(super) fn open(board: &Board) -> Result<Box<dyn Driver>, String> {
        Err(format!("board {} has LEDs on pins, but this program was built without the feature gpio", board.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Light;
    use super::*;

    #[test]
    fn a_machine_without_pins_says_so_once_and_goes_on() {
        let (_, words) = driver(&Board::named("generic").unwrap());
        assert!(words.unwrap().contains("no LEDs"));
        assert!(driver(&Board::named("simulated").unwrap()).1.is_none());
        // This test does not run on a Pi: a board with pins says why it has none, and what to do.
        let (mut none, words) = driver(&Board::named("rpi-4b").unwrap());
        assert!(words.is_some());
        assert_eq!(none.show(&[Light::white(255); 8]), Ok(()));
    }
}
