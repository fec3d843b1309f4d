//! WS2812 (NeoPixel): one line on which the length of a pulse is the bit. The data line of SPI keeps that time.
//!
//! Source: the data sheets of WS2812B: a 0 is high for 0.4 µs and low for 0.85, a 1 high for 0.8 and low for 0.45, each ± 0.15 µs; green,
//! red, blue, the highest bit first; what was sent is shown after the line was low for 50 µs, with newer chips 280.
//!
//! At 2.4 MHz a bit of SPI is 0.417 µs: 0b100 is a 0 (0.42, 0.83), 0b110 a 1 (0.83, 0.42).

use super::{Light, dimmed};
use crate::board::Order;

/// The clock of SPI.
pub const CLOCK_HZ: u32 = 2_400_000;
/// Low for 300 µs: 720 bits.
const LATCH: usize = 90;

/// The bytes of a frame on SPI. It begins low, so that the first pulse has an edge, and ends with the pause.
#[must_use]
pub fn frame(pixels: &[Light], brightness: u8, order: Order) -> Vec<u8> {
    let mut bytes = vec![0];
    for pixel in pixels {
        let Light { red, green, blue } = dimmed(*pixel, brightness);
        let sent = match order {
            Order::Rgb => [red, green, blue],
            Order::Grb => [green, red, blue],
            Order::Bgr => [blue, green, red],
        };
        bytes.extend(sent.into_iter().flat_map(pulses));
    }
    bytes.resize(bytes.len() + LATCH, 0);
    bytes
}

/// One byte as 24 bits of SPI.
fn pulses(byte: u8) -> [u8; 3] {
    let bits = (0..8).rev().fold(0_u32, |bits, bit| bits << 3 | if byte >> bit & 1 == 1 { 0b110 } else { 0b100 });
    let [_, high, middle, low] = bits.to_be_bytes();
    [high, middle, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_becomes_pulses_of_the_data_sheets_lengths() {
        // 00000000: 100 eight times; 11111111: 110 eight times; 10000001: 110 100 100 100 100 100 100 110.
        assert_eq!(pulses(0x00), [0b1001_0010, 0b0100_1001, 0b0010_0100]);
        assert_eq!(pulses(0xff), [0b1101_1011, 0b0110_1101, 0b1011_0110]);
        assert_eq!(pulses(0x81), [0b1101_0010, 0b0100_1001, 0b0010_0110]);
    }

    #[test]
    fn green_goes_first_and_a_frame_ends_with_the_pause() {
        let pixel = Light { red: 0xff, green: 0, blue: 0x81 };
        let bytes = frame(&[pixel], 255, Order::Grb);
        assert_eq!(bytes[..10], [0, 0x92, 0x49, 0x24, 0xdb, 0x6d, 0xb6, 0xd2, 0x49, 0x26]);
        assert!(bytes[10..].iter().all(|byte| *byte == 0));
        let pause_microseconds = (bytes.len() - 10) * 8 * 1_000_000 / CLOCK_HZ as usize;
        assert!((280..400).contains(&pause_microseconds), "{pause_microseconds}");
        assert_eq!(frame(&[pixel], 255, Order::Rgb)[1..4], [0xdb, 0x6d, 0xb6]);
        assert_eq!(frame(&[pixel], 255, Order::Bgr)[1..4], [0xd2, 0x49, 0x26]);
        assert_eq!(frame(&[Light::white(255); 256], 255, Order::Grb).len(), 1 + 256 * 9 + 90, "less than the 4096 of spidev");
    }

    #[test]
    fn each_pulse_is_within_the_tolerance_of_the_data_sheet() {
        // Read back as the chip would: lengths of high and low, in microseconds.
        let bytes = frame(&[Light { red: 0x5a, green: 0xc3, blue: 0x0f }], 255, Order::Grb);
        let levels: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
        let step = 1e6 / f64::from(CLOCK_HZ);
        let (mut read, mut at) = (Vec::new(), 8);
        while read.len() < 24 {
            let high = levels[at..].iter().take_while(|level| **level).count();
            let low = levels[at + high..].iter().take_while(|level| !**level).count().min(3 - high);
            let (high_us, low_us) = (high as f64 * step, low as f64 * step);
            let near = |is: f64, should: f64| (is - should).abs() <= 0.15;
            let one = near(high_us, 0.8) && near(low_us, 0.45);
            assert!(one || near(high_us, 0.4) && near(low_us, 0.85), "{high_us} {low_us}");
            read.push(one);
            at += high + low;
        }
        let sent = [0xc3_u8, 0x5a, 0x0f].iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
        assert!(read.into_iter().eq(sent));
    }
}
