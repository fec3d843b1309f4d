//! Hands: pins and buses through `rppal`, and pins through the kernel's GPIO character device where `rppal` cannot.
//!
//! `rppal` writes to the chip's registers: quick, but it knows the Pis of its time only, needs `/dev/gpiomem`, and does not see whom the
//! kernel gave a pin. So the kernel is asked first who has it: somebody's relay may hang there.

use std::io;
use std::path::PathBuf;

use gpiocdev::Request;
use gpiocdev::chip::{Chip, chips};
use gpiocdev::line::Value;
use rppal::gpio::{Gpio, OutputPin};

use super::super::DriverError;
use super::super::protocol::{Bytes, I2c, Output};
use super::Hardware;
use crate::board::{Board, I2cAddress};

/// What the kernel says of a pin that we took.
const CONSUMER: &str = "bramble";

pub(super) struct Pi {
    board: String,
    /// Labels of the chip with the header, the likeliest first.
    chips: Vec<String>,
}

impl Pi {
    pub(super) fn new(board: &Board) -> Self {
        Self { board: board.name.clone(), chips: board.gpio_chips.clone() }
    }

    /// The character device of the header's chip: by its label, since numbers differ from kernel to kernel.
    fn chip(&self) -> Option<PathBuf> {
        let mut labels = chips().ok()?.into_iter().filter_map(|path| {
            let label = Chip::from_path(&path).ok()?.info().ok()?.label;
            Some((path, label))
        });
        labels.find(|(_, label)| self.chips.contains(label)).map(|(path, _)| path)
    }
}

impl Hardware for Pi {
    fn output(&self, pin: u8, high: bool) -> Result<Box<dyn Output>, DriverError> {
        let chip = self.chip();
        if let Some(line) = chip.as_ref().and_then(|path| Chip::from_path(path).ok()?.line_info(u32::from(pin)).ok())
            && line.used
        {
            // A pin that the kernel uses for a bus has no consumer's name.
            let by = if line.consumer.is_empty() {
                "the kernel, for a bus or a serial line".to_owned()
            } else {
                format!("{:?}", line.consumer)
            };
            let words = format!(
                "pin {pin} is in use by {by}; free it (`gpioinfo` lists them), or take the LED out of the file that names it"
            );
            return Err(DriverError { words });
        }
        let refused = match Gpio::new().map(|gpio| gpio.get(pin)) {
            Ok(Ok(pin)) => return Ok(Box::new(Register(if high { pin.into_output_high() } else { pin.into_output_low() }))),
            Ok(Err(error)) => {
                return Err(DriverError { words: format!("cannot use pin {pin}: {error}; another part of this program has it") });
            }
            Err(error) => error,
        };
        let Some(chip) = chip else {
            let words = format!(
                "cannot use the GPIO pins of board {}: {refused}, and there is no GPIO chip {} that this user may open; is the agent in the group gpio?",
                self.board,
                self.chips.join(" or ")
            );
            return Err(DriverError { words });
        };
        let mut request = Request::builder();
        request.on_chip(&chip).with_consumer(CONSUMER).with_line(u32::from(pin)).as_output(level(high));
        let request = request.request().map_err(|error| DriverError {
            words: format!(
                "cannot use pin {pin} of {}: {error} (nor by rppal: {refused}); free the pin, or put the agent into the group gpio",
                chip.display()
            ),
        })?;
        Ok(Box::new(Line(request)))
    }

    fn i2c(&self, at: I2cAddress) -> Result<Box<dyn I2c>, DriverError> {
        let device = format!("/dev/i2c-{}", at.bus);
        let bus = rppal::i2c::I2c::with_bus(at.bus).and_then(|mut bus| {
            bus.set_slave_address(u16::from(at.address))?;
            Ok(bus)
        });
        bus.map(|bus| Box::new(OnI2c(bus)) as Box<dyn I2c>).map_err(|error| {
            let fix =
                "switch I2C on (`dtparam=i2c_arm=on` in config.txt, the module i2c-dev), and put the agent into the group i2c";
            DriverError { words: format!("cannot use {device}: {}; {fix}", of_i2c(error)) }
        })
    }

    fn spi(&self, bus: u8, select: u8, hz: u32) -> Result<Box<dyn Bytes>, DriverError> {
        use rppal::spi::{Bus, Mode, SlaveSelect, Spi};
        let unknown =
            || DriverError { words: format!("there is no /dev/spidev{bus}.{select} on a Pi; give another one (spi = …)") };
        let on = [Bus::Spi0, Bus::Spi1, Bus::Spi2, Bus::Spi3, Bus::Spi4, Bus::Spi5, Bus::Spi6];
        let by = [SlaveSelect::Ss0, SlaveSelect::Ss1, SlaveSelect::Ss2, SlaveSelect::Ss3];
        let on = on.get(usize::from(bus)).ok_or_else(unknown)?;
        let by = by.get(usize::from(select)).ok_or_else(unknown)?;
        Spi::new(*on, *by, hz, Mode::Mode0).map(|spi| Box::new(OnSpi(spi)) as Box<dyn Bytes>).map_err(|error| {
            let fix = "switch SPI on (`dtparam=spi=on` in config.txt), and put the agent into the group spi";
            DriverError { words: format!("cannot use /dev/spidev{bus}.{select}: {}; {fix}", of_spi(error)) }
        })
    }
}

fn level(high: bool) -> Value {
    if high { Value::Active } else { Value::Inactive }
}

struct Register(OutputPin);

impl Output for Register {
    fn set(&mut self, high: bool) -> io::Result<()> {
        if high {
            self.0.set_high();
        } else {
            self.0.set_low();
        }
        Ok(())
    }
}

struct Line(Request);

impl Output for Line {
    fn set(&mut self, high: bool) -> io::Result<()> {
        self.0.set_lone_value(level(high)).map_err(io::Error::other)
    }
}

struct OnI2c(rppal::i2c::I2c);

impl I2c for OnI2c {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        whole(self.0.write(bytes).map_err(of_i2c)?, bytes.len())
    }

    fn register(&mut self, register: u8) -> io::Result<u8> {
        let mut value = [0];
        self.0.write_read(&[register], &mut value).map_err(of_i2c)?;
        Ok(value[0])
    }
}

struct OnSpi(rppal::spi::Spi);

impl Bytes for OnSpi {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        whole(self.0.write(bytes).map_err(of_spi)?, bytes.len())
    }
}

fn whole(written: usize, length: usize) -> io::Result<()> {
    if written == length {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {length} bytes were taken")))
    }
}

fn of_i2c(error: rppal::i2c::Error) -> io::Error {
    match error {
        rppal::i2c::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

fn of_spi(error: rppal::spi::Error) -> io::Error {
    match error {
        rppal::spi::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
