//! The Sense HAT's matrix: the kernel's frame buffer, or its controller on I2C when the kernel has no driver for it.
//!
//! Source: Linux' rpisense-fb: 128 bytes, 8 rows of 8 pixels, RGB565 in the machine's order of bytes; the controller's registers from 0
//! on: for each row 8 of red, 8 of green, 8 of blue. It takes 6 bits; the kernel writes 31 at most, and so do we.

use super::{Light, of};

/// Pixels of the matrix.
pub const PIXELS: usize = 64;

/// What is written to the frame buffer.
#[must_use]
pub fn frame_buffer(pixels: &[Light], brightness: u8) -> Vec<u8> {
    let rgb565 = |light: &Light| {
        let part = |level, most| u16::from(of(level, brightness, most));
        part(light.red, 31) << 11 | part(light.green, 63) << 5 | part(light.blue, 31)
    };
    let dark = std::iter::repeat_n(&Light::DARK, PIXELS);
    pixels.iter().chain(dark).take(PIXELS).flat_map(|light| rgb565(light).to_ne_bytes()).collect()
}

/// What is written on I2C: the first register, then all of them.
#[must_use]
pub fn registers(pixels: &[Light], brightness: u8) -> Vec<u8> {
    let mut bytes = vec![0; 1 + 3 * PIXELS];
    for (index, light) in pixels.iter().take(PIXELS).enumerate() {
        let at = 1 + index / 8 * 24 + index % 8;
        for (step, level) in [light.red, light.green, light.blue].into_iter().enumerate() {
            if let Some(byte) = bytes.get_mut(at + 8 * step) {
                *byte = of(level, brightness, 31);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> [Light; PIXELS] {
        let mut pixels = [Light::DARK; PIXELS];
        pixels[0] = Light { red: 255, green: 0, blue: 0 };
        pixels[1] = Light { red: 0, green: 255, blue: 0 };
        pixels[9] = Light { red: 0, green: 0, blue: 255 };
        pixels[63] = Light::white(255);
        pixels
    }

    #[test]
    fn the_frame_buffer_has_five_six_and_five_bits() {
        let bytes = frame_buffer(&picture(), 255);
        let words: Vec<u16> = bytes.chunks(2).map(|two| u16::from_ne_bytes([two[0], two[1]])).collect();
        assert_eq!((bytes.len(), words[0], words[1], words[9], words[63]), (128, 0xf800, 0x07e0, 0x001f, 0xffff));
        assert_eq!(words.iter().filter(|word| **word != 0).count(), 4);
        // Half as bright: 16 of 31, 32 of 63.
        assert_eq!(frame_buffer(&[Light::white(255)], 128)[..2], (16_u16 << 11 | 32 << 5 | 16).to_ne_bytes());
        assert_eq!(frame_buffer(&[], 255), [0; 128]);
    }

    #[test]
    fn a_row_on_i2c_is_eight_reds_eight_greens_eight_blues() {
        let bytes = registers(&picture(), 255);
        let lit: Vec<(usize, u8)> = bytes.iter().copied().enumerate().filter(|(_, byte)| *byte > 0).collect();
        // After the register's number: red of (0,0); green of (1,0): 8 + 1; blue of (1,1): 24 + 16 + 1; the last pixel: 7 * 24 + 7.
        assert_eq!((bytes.len(), bytes[0]), (193, 0));
        assert_eq!(lit, [(1, 31), (1 + 9, 31), (1 + 41, 31), (1 + 175, 31), (1 + 183, 31), (1 + 191, 31)]);
    }
}
