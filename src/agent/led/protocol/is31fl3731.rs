//! IS31FL3731 on I2C, as on the LED SHIM: a chip with 144 LEDs, each with its own brightness, in eight frames. We use the first.
//!
//! Source: Lumissil's data sheet. Register 0xfd chooses a page: 0 to 7 are frames, 0x0b has the functions. A frame has 18 bytes that switch
//! LEDs on (from 0x00), 18 that let them blink (0x12), 144 of brightness (0x24); the register counts on by itself within a message.
//! Functions: 0x00 mode (0: pictures), 0x01 which picture, 0x06 sound (0: none), 0x0a shutdown (0: asleep).

use super::{Light, dimmed};

const PAGE: u8 = 0xfd;
const FUNCTIONS: u8 = 0x0b;
const SHUTDOWN: u8 = 0x0a;
const BLINK: u8 = 0x12;
const BRIGHTNESS: u8 = 0x24;
/// LEDs of the chip.
const LEDS: usize = 144;

/// The writes after which it shows the first frame, all dark. It sleeps meanwhile, so that nothing old flashes.
#[must_use]
pub fn start(channels: &[[u8; 3]]) -> Vec<Vec<u8>> {
    let mut on = [0_u8; LEDS / 8];
    for channel in channels.iter().flatten() {
        if let Some(byte) = on.get_mut(usize::from(channel / 8)) {
            *byte |= 1 << (channel % 8);
        }
    }
    let run = |register: u8, bytes: &[u8]| [&[register], bytes].concat();
    vec![
        vec![PAGE, FUNCTIONS],
        vec![SHUTDOWN, 0],
        vec![0x00, 0],
        vec![0x06, 0],
        vec![PAGE, 0],
        run(0x00, &on),
        run(BLINK, &[0; LEDS / 8]),
        run(BRIGHTNESS, &[0; LEDS]),
        vec![PAGE, FUNCTIONS],
        vec![0x01, 0],
        vec![SHUTDOWN, 1],
    ]
}

/// The writes that show these pixels.
#[must_use]
pub fn show(pixels: &[Light], channels: &[[u8; 3]], brightness: u8) -> Vec<Vec<u8>> {
    let mut levels = [0_u8; LEDS];
    for (pixel, channels) in pixels.iter().zip(channels) {
        let Light { red, green, blue } = dimmed(*pixel, brightness);
        for (channel, level) in channels.iter().zip([red, green, blue]) {
            if let Some(slot) = levels.get_mut(usize::from(*channel)) {
                *slot = level;
            }
        }
    }
    vec![vec![PAGE, 0], [&[BRIGHTNESS][..], &levels].concat()]
}

/// The writes that put it to sleep: dark.
#[must_use]
pub fn sleep() -> Vec<Vec<u8>> {
    vec![vec![PAGE, FUNCTIONS], vec![SHUTDOWN, 0]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{Hat, StripDriver};

    fn shim() -> Vec<[u8; 3]> {
        match &Hat::named("led-shim").unwrap().strips[0].driver {
            StripDriver::Is31fl3731 { channels, .. } => channels.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_led_shims_table_names_84_leds_once_each() {
        let mut all: Vec<u8> = shim().into_iter().flatten().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), all.last()), (84, Some(&134)));
    }

    #[test]
    fn it_is_started_asleep_with_the_shims_leds_switched_on() {
        let writes = start(&shim());
        assert_eq!(writes[..5], [vec![0xfd, 0x0b], vec![0x0a, 0], vec![0, 0], vec![6, 0], vec![0xfd, 0]]);
        // The pattern that Pimoroni's library writes for the LED SHIM.
        let on = [
            0x00,
            0b0000_0000,
            0b1011_1111,
            0b0011_1110,
            0b0011_1110,
            0b0011_1111,
            0b1011_1110,
            0b0000_0111,
            0b1000_0110,
            0b0011_0000,
            0b0011_0000,
            0b0011_1111,
            0b1011_1110,
            0b0011_1111,
            0b1011_1110,
            0b0111_1111,
            0b1111_1110,
            0b0111_1111,
            0b0000_0000,
        ];
        assert_eq!(writes[5], on);
        assert_eq!((writes[6][0], writes[6].len(), writes[7][0], writes[7].len()), (0x12, 19, 0x24, 145));
        assert_eq!(writes[8..], [vec![0xfd, 0x0b], vec![1, 0], vec![0x0a, 1]]);
    }

    #[test]
    fn a_pixel_is_three_bytes_of_the_frame() {
        let mut pixels = [Light::DARK; 28];
        pixels[0] = Light { red: 10, green: 20, blue: 30 };
        pixels[27] = Light { red: 255, green: 0, blue: 1 };
        let writes = show(&pixels, &shim(), 255);
        assert_eq!((writes.len(), writes[0].as_slice(), writes[1].len()), (2, &[0xfd, 0][..], 145));
        let lit: Vec<(usize, u8)> = writes[1].iter().copied().enumerate().skip(1).filter(|(_, level)| *level > 0).collect();
        // The register stands before the levels: LED 118 is byte 119.
        assert_eq!(lit, [(14, 255), (70, 20), (86, 30), (94, 1), (119, 10)]);
        assert_eq!(show(&pixels, &shim(), 128)[1][14], 128);
        assert_eq!(sleep(), [[0xfd, 0x0b], [0x0a, 0x00]]);
    }
}
