//! APA102 and its like (SK9822), as on a Blinkt!: a data line and a clock line, no time to keep.
//!
//! Source: the data sheets of APA102 and SK9822: a start frame of 32 zero bits; for each pixel 0b111, 5 bits of brightness, then blue,
//! green, red, each 8 bits, the highest first; data is taken with the rising edge of the clock. The end: each pixel hands the clock on half
//! a cycle late, so the last one needs a clock for every two pixels; the SK9822 shows what it got at 32 zero bits. Zeros serve both,
//! ones would light a pixel too many.

use std::io;

use super::{Light, Output, of};

/// The bytes of a frame. The limit on brightness is the chip's own, so that colours keep all their steps.
#[must_use]
pub fn frame(pixels: &[Light], brightness: u8) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for pixel in pixels {
        bytes.extend([0b1110_0000 | of(255, brightness, 31), pixel.blue, pixel.green, pixel.red]);
    }
    bytes.resize(bytes.len() + 4 + pixels.len().div_ceil(16), 0);
    bytes
}

/// Clocks bytes out, the highest bit first.
///
/// # Errors
/// When a line cannot be driven.
pub fn clock_out(bytes: &[u8], data: &mut dyn Output, clock: &mut dyn Output) -> io::Result<()> {
    for byte in bytes {
        for bit in (0..8).rev() {
            data.set(byte >> bit & 1 == 1)?;
            clock.set(true)?;
            clock.set(false)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_frame_is_what_the_data_sheet_draws() {
        let red = Light { red: 0xff, green: 0, blue: 0 };
        let dim = Light { red: 1, green: 2, blue: 3 };
        // 32 zero bits; 0xe0 + 31, blue, green, red; 32 zero bits and a byte for up to 16 pixels.
        assert_eq!(frame(&[red, dim], 255), [0, 0, 0, 0, 0xff, 0x00, 0x00, 0xff, 0xff, 0x03, 0x02, 0x01, 0, 0, 0, 0, 0]);
        // 48 of 255 are 6 of 31 (5.8); the least is 1, else all were dark.
        assert_eq!(frame(&[red], 48)[4..8], [0xe6, 0, 0, 0xff]);
        assert_eq!(frame(&[red], 1)[4], 0xe1);
        // Eight pixels, a Blinkt!: 36 clocks at the end at least.
        let eight = frame(&[Light::DARK; 8], 255);
        assert_eq!(eight.len(), 4 + 32 + 5);
        assert!(frame(&[Light::DARK; 100], 255).len() - 4 - 400 >= 4 + 50 / 8);
    }

    #[derive(Default)]
    struct Levels {
        data: bool,
        clock: bool,
        /// Of the data line at each rising edge of the clock.
        taken: Vec<bool>,
        edges: usize,
    }
    #[derive(Clone, Default)]
    struct Wires(Arc<Mutex<Levels>>);
    struct Data(Wires);
    struct Clock(Wires);

    impl Output for Data {
        fn set(&mut self, high: bool) -> io::Result<()> {
            let mut wires = self.0.0.lock().unwrap();
            assert!(!wires.clock, "data changes only while the clock is low");
            wires.data = high;
            Ok(())
        }
    }

    impl Output for Clock {
        fn set(&mut self, high: bool) -> io::Result<()> {
            let mut wires = self.0.0.lock().unwrap();
            if high && !wires.clock {
                let level = wires.data;
                wires.taken.push(level);
            }
            wires.edges += 1;
            wires.clock = high;
            Ok(())
        }
    }

    #[test]
    fn bits_are_on_the_data_line_at_each_rising_edge_the_highest_first() {
        let wires = Wires::default();
        clock_out(&[0b1010_0001, 0xf0], &mut Data(wires.clone()), &mut Clock(wires.clone())).unwrap();
        let wires = wires.0.lock().unwrap();
        let told: String = wires.taken.iter().map(|bit| if *bit { '1' } else { '0' }).collect();
        assert_eq!(told, "1010000111110000");
        assert_eq!((wires.edges, wires.clock), (32, false), "two edges a bit, and the clock rests low");
    }
}
