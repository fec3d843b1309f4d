//! An expander with the registers of a PCA9554 (so has the XRA1200 of a Cluster HAT): eight outputs, of which some are LEDs.
//!
//! Source: the data sheets: 0 what the pins are at, 1 what the outputs are to be, 3 which pins are inputs (1).
//!
//! The others may switch the power of boards, so nothing is written but the LEDs' own bits of register 1, read before. Directions are
//! never set: an expander whose pins are all inputs was not set up yet, and what sets it up (`clusterctrl init`) goes by that.

use std::io;

use super::{I2c, Light};

const OUTPUTS: u8 = 1;
const DIRECTIONS: u8 = 3;

/// Shows lights on these bits.
///
/// # Errors
/// When the chip does not answer, or one of the bits is an input ([`io::ErrorKind::NotConnected`]).
pub fn show(chip: &mut dyn I2c, bits: &[u8], active_low: bool, lights: &[Light]) -> io::Result<()> {
    let (mut ours, mut wanted) = (0_u8, 0_u8);
    for (bit, light) in bits.iter().zip(lights) {
        let mask = 1_u8.checked_shl(u32::from(*bit)).unwrap_or(0);
        ours |= mask;
        if light.is_lit() != active_low {
            wanted |= mask;
        }
    }
    if chip.register(DIRECTIONS)? & ours != 0 {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "the LED's output is switched off"));
    }
    let is = chip.register(OUTPUTS)?;
    let to_be = is & !ours | wanted;
    if to_be != is {
        chip.write(&[OUTPUTS, to_be])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Recorded;
    use super::*;

    #[test]
    fn only_the_leds_bits_change_and_the_power_of_the_others_stays() {
        let chip = Recorded::default();
        let set = |outputs| chip.registers.lock().unwrap().extend([(1_u8, outputs), (3, 0)]);
        for (outputs, lit, active_low, written) in [
            (0b1001_1010, true, false, Some(0b1101_1010)),
            (0b1101_1111, false, false, Some(0b1001_1111)),
            (0b1101_1111, true, false, None),
            (0b1001_1111, false, false, None),
            (0b0000_1111, false, true, Some(0b0100_1111)),
            (0b0100_1111, true, true, Some(0b0000_1111)),
        ] {
            set(outputs);
            show(&mut chip.clone(), &[6], active_low, &[if lit { Light::white(1) } else { Light::DARK }]).unwrap();
            let expected: Vec<Vec<u8>> = written.into_iter().map(|outputs| vec![1, outputs]).collect();
            assert_eq!(chip.take(), expected, "{outputs:#b} {lit} {active_low}");
        }
    }

    #[test]
    fn what_was_not_set_up_is_left_alone() {
        let chip = Recorded::default();
        for directions in [0xff, 0b0100_0000] {
            chip.registers.lock().unwrap().extend([(1, 0xff), (3, directions)]);
            let told = show(&mut chip.clone(), &[6], false, &[Light::white(255)]).unwrap_err();
            assert_eq!(told.kind(), io::ErrorKind::NotConnected);
        }
        chip.registers.lock().unwrap().insert(3, 0b1000_0000);
        show(&mut chip.clone(), &[6], false, &[Light::DARK]).unwrap();
        assert_eq!(chip.take(), [[1, 0b1011_1111]]);
    }
}
