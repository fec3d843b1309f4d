//! Hands: LEDs on a strip, written to as a whole.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::protocol::{Bytes, I2c, Output, apa102, is31fl3731, pca9554, sense_hat, ws2812};
use super::super::{DriverError, Light};
use super::Hardware;
use super::worker::{Attempt, Part};
use crate::board::{I2cAddress, Strip, StripDriver};

/// Source: Linux' rpisense-fb names its frame buffer so.
const SENSE_HAT: &str = "RPi-Sense FB";

pub(super) struct StripPart {
    strip: Strip,
    hardware: Arc<dyn Hardware>,
    root: PathBuf,
    open: Result<Open, DriverError>,
}

enum Open {
    Lines(Box<dyn Output>, Box<dyn Output>),
    Stream(Box<dyn Bytes>),
    Chip(Box<dyn I2c>),
    FrameBuffer(PathBuf),
}

impl StripPart {
    pub(super) fn new(strip: Strip, hardware: Arc<dyn Hardware>, root: &Path) -> Self {
        Self { strip, hardware, root: root.to_owned(), open: Err(DriverError { words: String::new() }) }
    }

    fn open(&self) -> Result<Open, DriverError> {
        let named = |error: DriverError| DriverError { words: format!("strip {:?}: {}", self.strip.name, error.words) };
        let open = match &self.strip.driver {
            StripDriver::Apa102 { data, clock } => {
                let line = |pin| self.hardware.output(pin, false).map_err(named);
                Open::Lines(line(*data)?, line(*clock)?)
            }
            StripDriver::Ws2812 { bus, select, .. } => {
                Open::Stream(self.hardware.spi(*bus, *select, ws2812::CLOCK_HZ).map_err(named)?)
            }
            StripDriver::Is31fl3731 { at, channels } => {
                let mut chip = self.hardware.i2c(*at).map_err(named)?;
                write_all(chip.as_mut(), is31fl3731::start(channels)).map_err(|error| self.unanswered(&error))?;
                Open::Chip(chip)
            }
            StripDriver::SenseHat { at } => match frame_buffer(&self.root) {
                Some(device) => Open::FrameBuffer(device),
                None => Open::Chip(self.hardware.i2c(*at).map_err(named)?),
            },
            StripDriver::Pca9554 { at, .. } => Open::Chip(self.hardware.i2c(*at).map_err(named)?),
        };
        Ok(open)
    }

    fn write(&mut self, lights: &[Light]) -> io::Result<()> {
        let brightness = self.strip.brightness;
        match (&mut self.open, &self.strip.driver) {
            (Ok(Open::Lines(data, clock)), _) => {
                apa102::clock_out(&apa102::frame(lights, brightness), data.as_mut(), clock.as_mut())
            }
            (Ok(Open::Stream(spi)), StripDriver::Ws2812 { order, .. }) => spi.write(&ws2812::frame(lights, brightness, *order)),
            (Ok(Open::Chip(chip)), StripDriver::Is31fl3731 { channels, .. }) => {
                write_all(chip.as_mut(), is31fl3731::show(lights, channels, brightness))
            }
            (Ok(Open::FrameBuffer(device)), _) => {
                // Not made where it is missing: a file would swallow every frame.
                let mut device = std::fs::OpenOptions::new().write(true).open(device)?;
                device.write_all(&sense_hat::frame_buffer(lights, brightness))
            }
            (Ok(Open::Chip(chip)), StripDriver::SenseHat { .. }) => chip.write(&sense_hat::registers(lights, brightness)),
            (Ok(Open::Chip(chip)), StripDriver::Pca9554 { bits, active_low, .. }) => {
                pca9554::show(chip.as_mut(), bits, *active_low, lights)
            }
            // It is opened as its driver says.
            (Ok(_) | Err(_), _) => Ok(()),
        }
    }

    fn unanswered(&self, error: &io::Error) -> DriverError {
        let name = &self.strip.name;
        let chip = |at: &I2cAddress| {
            let fix = match error.kind() {
                io::ErrorKind::NotConnected => {
                    "it was not set up yet: run `clusterctrl init`, which also decides which Zeros have power".to_owned()
                }
                _ => format!("see that the HAT sits well, and what `i2cdetect -y {}` finds", at.bus),
            };
            format!("strip {name:?}: nothing that obeys at address {:#04x} on i2c-{}: {error}; {fix}", at.address, at.bus)
        };
        let words = match (&self.open, &self.strip.driver) {
            (Ok(Open::FrameBuffer(device)), _) => {
                format!(
                    "strip {name:?}: cannot write to {}: {error}; run the agent as a user of the group video",
                    device.display()
                )
            }
            (_, StripDriver::Is31fl3731 { at, .. } | StripDriver::SenseHat { at } | StripDriver::Pca9554 { at, .. }) => chip(at),
            (_, StripDriver::Ws2812 { bus, select, .. }) => {
                format!("strip {name:?}: cannot write to /dev/spidev{bus}.{select}: {error}; see the kernel's log")
            }
            (_, StripDriver::Apa102 { data, clock }) => {
                format!("strip {name:?}: pins {data} and {clock} do not obey any more: {error}; see the kernel's log")
            }
        };
        DriverError { words }
    }
}

impl Part for StripPart {
    fn show(&mut self, lights: &[Light], attempt: Attempt) -> Result<(), DriverError> {
        if self.open.is_err() && attempt == Attempt::Open {
            self.open = self.open();
        }
        if let Err(error) = &self.open {
            return Err(error.clone());
        }
        self.write(lights).map_err(|error| {
            let error = self.unanswered(&error);
            self.open = Err(error.clone());
            error
        })
    }

    fn works(&self) -> bool {
        self.open.is_ok()
    }

    fn forget(&mut self) {
        // The other one may have put a chip to sleep: it is started again.
        self.open = Err(DriverError { words: String::new() });
    }

    fn leave(&mut self) {
        let dark = vec![Light::DARK; self.strip.pixels];
        // Nobody is left to hear of a failure.
        let _ = self.write(&dark);
        if let (Ok(Open::Chip(chip)), StripDriver::Is31fl3731 { .. }) = (&mut self.open, &self.strip.driver) {
            let _ = write_all(chip.as_mut(), is31fl3731::sleep());
        }
        self.open = Err(DriverError { words: String::new() });
    }
}

fn write_all(chip: &mut dyn I2c, writes: Vec<Vec<u8>>) -> io::Result<()> {
    writes.iter().try_for_each(|bytes| chip.write(bytes))
}

/// The Sense HAT's frame buffer, where the kernel has one for it.
fn frame_buffer(root: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root.join("sys/class/graphics"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| std::fs::read_to_string(folder.join("name")).is_ok_and(|name| name.trim() == SENSE_HAT))
        .collect();
    found.sort();
    Some(root.join("dev").join(found.first()?.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;
    use crate::board::Hat;

    fn part(hat: &str, bench: &Arc<Bench>, root: &Path) -> StripPart {
        StripPart::new(Hat::named(hat).unwrap().strips.remove(0), bench.clone(), root)
    }

    #[test]
    fn a_blinkt_gets_its_frame_on_its_two_pins() {
        let bench = Arc::new(Bench::default());
        let mut part = part("blinkt", &bench, Path::new("/nowhere"));
        part.show(&[Light { red: 255, green: 0, blue: 0 }; 8], Attempt::Open).unwrap();
        let bits = bench.clocked(23, 24);
        assert_eq!(bits.len(), (4 + 32 + 5) * 8);
        assert!(bits[..32].iter().all(|bit| !bit));
        // 0b111, 6 of 31, no blue, no green, all red.
        let word: String = bits[32..64].iter().map(|bit| if *bit { '1' } else { '0' }).collect();
        assert_eq!(word, "11100110000000000000000011111111");
    }

    #[test]
    fn a_chip_that_is_plugged_in_later_is_started_then() {
        let bench = Arc::new(Bench::default());
        bench.chip.gone.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut part = part("led-shim", &bench, Path::new("/nowhere"));
        let lights = [Light::white(255); 28];
        let told = part.show(&lights, Attempt::Open).unwrap_err().words;
        assert!(told.contains("address 0x75 on i2c-1") && told.contains("i2cdetect -y 1"), "{told}");
        bench.chip.gone.store(false, std::sync::atomic::Ordering::SeqCst);
        assert!(part.show(&lights, Attempt::AsIs).is_err(), "a bus that hangs is not asked again with each frame");
        part.show(&lights, Attempt::Open).unwrap();
        let writes = bench.chip.take();
        assert_eq!((writes.len(), writes[12].len()), (11 + 2, 145));
        assert_eq!(writes[12].iter().filter(|level| **level == 96).count(), 84);
        // Pulled out: the next frame says so, and it is started anew after that.
        bench.chip.gone.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(part.show(&lights, Attempt::AsIs).is_err());
        bench.chip.gone.store(false, std::sync::atomic::Ordering::SeqCst);
        part.show(&lights, Attempt::Open).unwrap();
        assert_eq!(bench.chip.take().len(), 13);
        part.leave();
        assert_eq!(bench.chip.take().last().unwrap(), &[0x0a, 0]);
    }

    #[test]
    fn ws2812_get_their_pulses_on_spi() {
        let bench = Arc::new(Bench::default());
        let mut part = part("ws2812", &bench, Path::new("/nowhere"));
        part.show(&[Light::DARK; 8], Attempt::Open).unwrap();
        let sent = bench.chip.take();
        assert_eq!((sent.len(), sent[0].len(), &sent[0][1..4]), (1, 1 + 72 + 90, &[0x92, 0x49, 0x24][..]));
    }

    #[test]
    fn the_sense_hat_is_its_frame_buffer_where_the_kernel_has_one_else_its_chip() {
        let root = tempfile::tempdir().unwrap();
        for (name, told) in [("fb0", "vc4drmfb"), ("fb1", "RPi-Sense FB\n")] {
            let folder = root.path().join("sys/class/graphics").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("name"), told).unwrap();
        }
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/fb1"), "").unwrap();
        let bench = Arc::new(Bench::default());
        let mut lights = [Light::DARK; 64];
        lights[2] = Light { red: 0, green: 0, blue: 255 };
        part("sense-hat", &bench, root.path()).show(&lights, Attempt::Open).unwrap();
        let written = std::fs::read(root.path().join("dev/fb1")).unwrap();
        // 160 of 255 are 20 of 31 (19.5).
        assert_eq!((written.len(), &written[4..6]), (128, &20_u16.to_ne_bytes()[..]));
        assert!(bench.chip.take().is_empty());
        part("sense-hat", &bench, Path::new("/nowhere")).show(&lights, Attempt::Open).unwrap();
        let sent = bench.chip.take();
        assert_eq!((sent[0].len(), sent[0][1 + 16 + 2]), (193, 20));
    }

    #[test]
    fn a_cluster_hat_keeps_its_zeros_powered_from_the_first_frame_to_the_last() {
        let bench = Arc::new(Bench::default());
        bench.chip.registers.lock().unwrap().extend([(1, 0b1001_1111), (3, 0)]);
        let mut part = part("clusterhat", &bench, Path::new("/nowhere"));
        for light in [Light::DARK, Light::white(255), Light::DARK, Light::white(255)] {
            part.show(&[light], Attempt::Open).unwrap();
        }
        part.leave();
        let writes = bench.chip.take();
        assert_eq!(writes.len(), 4);
        assert!(writes.iter().all(|write| write[0] == 1 && write[1] & 0b1011_1111 == 0b1001_1111), "{writes:?}");
        assert_eq!(writes[3][1], 0b1001_1111);
        bench.chip.registers.lock().unwrap().insert(3, 0xff);
        let told = part.show(&[Light::white(1)], Attempt::Open).unwrap_err().words;
        assert!(told.contains("clusterctrl init") && bench.chip.take().is_empty(), "{told}");
    }
}
