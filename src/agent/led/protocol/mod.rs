//! What is said to LEDs: frames of lights as bits and bytes, each from its data sheet.
//!
//! In:       lights, and how bright they may be.
//! Out:      bytes, or edges and writes on a bus that stands behind a trait here.
//! Never:    opens a device (`led/gpio/`).

pub mod apa102;
pub mod is31fl3731;
pub mod pca9554;
pub mod sense_hat;
pub mod ws2812;

use std::io;

use super::Light;

/// One line that is driven.
pub trait Output: Send {
    /// High or low.
    ///
    /// # Errors
    /// When the line cannot be driven any more.
    fn set(&mut self, high: bool) -> io::Result<()>;
}

/// One chip on I2C.
pub trait I2c: Send {
    /// Writes these bytes in one message.
    ///
    /// # Errors
    /// When the chip does not answer.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reads a register of one byte.
    ///
    /// # Errors
    /// When the chip does not answer.
    fn register(&mut self, register: u8) -> io::Result<u8>;
}

/// One device on SPI, or whatever else takes a stream of bytes.
pub trait Bytes: Send {
    /// Writes these bytes without a pause.
    ///
    /// # Errors
    /// When they could not be written whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A light under a limit of `brightness` of 255. What is lit stays lit, be it ever so dim.
#[must_use]
pub fn dimmed(light: Light, brightness: u8) -> Light {
    let dim = |level: u8| of(level, brightness, 255);
    Light { red: dim(light.red), green: dim(light.green), blue: dim(light.blue) }
}

/// `level` of 255 under a limit of `brightness` of 255, as a step of 0 to `most`; never 0 for what is lit.
#[must_use]
pub fn of(level: u8, brightness: u8, most: u8) -> u8 {
    const FULL: u32 = 255 * 255;
    let product = u32::from(level) * u32::from(brightness) * u32::from(most);
    u8::try_from(product.div_ceil(FULL)).unwrap_or(most)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn what_is_lit_stays_lit_and_what_is_dark_stays_dark() {
        for (level, brightness, most, step) in [
            (0, 255, 255, 0),
            (1, 1, 255, 1),
            (255, 255, 255, 255),
            (255, 128, 255, 128),
            (255, 255, 31, 31),
            (1, 255, 31, 1),
            (128, 255, 31, 16),
        ] {
            assert_eq!(of(level, brightness, most), step, "{level} {brightness} {most}");
        }
    }

    /// A chip with 256 registers that records what is written, and may be plugged out.
    #[derive(Clone, Default)]
    pub(crate) struct Recorded {
        pub(crate) writes: std::sync::Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
        pub(crate) registers: std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<u8, u8>>>,
        pub(crate) gone: std::sync::Arc<std::sync::atomic::AtomicBool>,
    }

    impl Recorded {
        pub(crate) fn take(&self) -> Vec<Vec<u8>> {
            std::mem::take(&mut self.writes.lock().unwrap())
        }

        fn answers(&self) -> io::Result<()> {
            // What the Pi's driver says when nobody acknowledges an address: EREMOTEIO.
            if self.gone.load(std::sync::atomic::Ordering::SeqCst) { Err(io::Error::from_raw_os_error(121)) } else { Ok(()) }
        }
    }

    impl I2c for Recorded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.answers()?;
            if let [register, value] = bytes {
                self.registers.lock().unwrap().insert(*register, *value);
            }
            self.writes.lock().unwrap().push(bytes.to_vec());
            Ok(())
        }

        fn register(&mut self, register: u8) -> io::Result<u8> {
            self.answers()?;
            Ok(self.registers.lock().unwrap().get(&register).copied().unwrap_or(0))
        }
    }

    impl Bytes for Recorded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.answers()?;
            self.writes.lock().unwrap().push(bytes.to_vec());
            Ok(())
        }
    }
}
