//! The SPI buses of the Pis: which there are, and which pins of the header they take.
//!
//! In:       a bus and a chip select; the labels that the header's GPIO chip may have.
//! Out:      whether there is such a device, and its pins.
//! Source:   the device tree overlays of Raspberry Pi's kernel (`spi0-2cs`, `spi1-3cs` … `spi6-2cs`, and those that end with `-pi5`), and the
//!           tables of the pins' functions in the manuals of BCM2835, BCM2711 and RP1.

/// A device on SPI: `/dev/spidev<bus>.<select>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Device {
    pub(super) bus: u8,
    /// Its chip select.
    pub(super) select: u8,
}

/// One bus on one GPIO chip.
struct Bus {
    chip: &'static str,
    bus: u8,
    /// Its data and clock lines.
    lines: &'static [u8],
    /// Its chip selects.
    selects: &'static [u8],
}

const fn bus(chip: &'static str, bus: u8, lines: &'static [u8], selects: &'static [u8]) -> Bus {
    Bus { chip, bus, lines, selects }
}

pub(super) const BCM2835: &str = "pinctrl-bcm2835";
pub(super) const BCM2711: &str = "pinctrl-bcm2711";
pub(super) const RP1: &str = "pinctrl-rp1";

/// Whether this is the label of a Pi's chip.
fn is_known(chip: &str) -> bool {
    [BCM2835, BCM2711, RP1].contains(&chip)
}

/// Bus 2 of a Compute Module is on pins that no header has.
const BUSES: [Bus; 15] = [
    bus(BCM2835, 0, &[9, 10, 11], &[8, 7]),
    bus(BCM2835, 1, &[19, 20, 21], &[18, 17, 16]),
    bus(BCM2835, 2, &[], &[]),
    bus(BCM2711, 0, &[9, 10, 11], &[8, 7]),
    bus(BCM2711, 1, &[19, 20, 21], &[18, 17, 16]),
    bus(BCM2711, 2, &[], &[]),
    bus(BCM2711, 3, &[1, 2, 3], &[0, 24]),
    bus(BCM2711, 4, &[5, 6, 7], &[4, 25]),
    bus(BCM2711, 5, &[13, 14, 15], &[12, 26]),
    bus(BCM2711, 6, &[19, 20, 21], &[18, 27]),
    bus(RP1, 0, &[9, 10, 11], &[8, 7]),
    bus(RP1, 1, &[19, 20, 21], &[18, 17, 16]),
    bus(RP1, 2, &[1, 2, 3], &[0, 24]),
    bus(RP1, 3, &[5, 6, 7], &[4, 25]),
    bus(RP1, 5, &[13, 14, 15], &[12, 26]),
];

/// A device by its numbers, as `"0.1"` has them; `None`: no Pi has one.
pub(super) fn device(text: &str) -> Option<Device> {
    let (bus, select) = text.split_once('.')?;
    let digit = |text: &str| text.parse().ok().filter(|_: &u8| text.len() == 1 && text != "+");
    let (bus, select) = (digit(bus)?, digit(select)?);
    let selects = match bus {
        0 | 3..=6 => 2,
        1 | 2 => 3,
        _ => 0,
    };
    (select < selects).then_some(Device { bus, select })
}

/// The buses of this number on these chips; on a chip that is not a Pi's nothing is known.
fn on<'a>(device: Device, chips: &'a [String]) -> impl Iterator<Item = &'static Bus> + 'a {
    BUSES.iter().filter(move |bus| bus.bus == device.bus && chips.iter().any(|chip| chip == bus.chip))
}

/// Whether a header on one of these chips may have this device.
pub(super) fn is_there(device: Device, chips: &[String]) -> bool {
    let has = |bus: &Bus| bus.selects.is_empty() || usize::from(device.select) < bus.selects.len();
    !chips.iter().all(|chip| is_known(chip)) || on(device, chips).any(has)
}

/// The pins that it takes. Where the chips do not agree, none: which it is, only the board can tell. The chip selects of bus 0 are taken
/// both (`dtparam=spi=on`), those of the others up to the device's own.
pub(super) fn pins(device: Device, chips: &[String]) -> Vec<u8> {
    let of = |bus: &Bus| {
        let selects = if bus.bus == 0 { bus.selects.len() } else { usize::from(device.select) + 1 };
        bus.lines.iter().chain(bus.selects.iter().take(selects)).copied().collect::<Vec<u8>>()
    };
    let mut all = on(device, chips).map(of);
    let first = all.next().unwrap_or_default();
    if all.all(|other| other == first) { first } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chips(labels: &str) -> Vec<String> {
        labels.split(' ').map(|label| format!("pinctrl-{label}")).collect()
    }

    #[test]
    fn a_device_is_one_that_some_pi_has() {
        for (text, is_one) in [
            ("0.0", true),
            ("0.1", true),
            ("0.2", false),
            ("1.2", true),
            ("1.3", false),
            ("2.2", true),
            ("3.1", true),
            ("3.2", false),
            ("6.1", true),
            ("7.0", false),
            ("9.9", false),
            ("0", false),
            ("0.", false),
            (".0", false),
            ("00.0", false),
            ("+0.0", false),
            ("0.0.0", false),
            ("-1.0", false),
            ("", false),
        ] {
            assert_eq!(device(text).is_some(), is_one, "{text:?}");
        }
    }

    #[test]
    fn the_pins_of_a_bus_are_those_of_the_board_s_chip() {
        for (text, labels, pins) in [
            ("0.0", "bcm2835", "[9, 10, 11, 8, 7]"),
            ("1.0", "bcm2711 bcm2835", "[19, 20, 21, 18]"),
            ("1.2", "rp1", "[19, 20, 21, 18, 17, 16]"),
            ("3.0", "bcm2711 bcm2835", "[1, 2, 3, 0]"),
            ("3.1", "rp1", "[5, 6, 7, 4, 25]"),
            // Which board it is for is not known: only what is the same on all is taken.
            ("3.0", "bcm2835 bcm2711 rp1", "[]"),
            ("5.0", "bcm2835 bcm2711 rp1", "[13, 14, 15, 12]"),
            ("2.0", "bcm2711", "[]"),
            ("0.0", "of-another-maker", "[]"),
        ] {
            assert_eq!(format!("{:?}", super::pins(device(text).unwrap(), &chips(labels))), pins, "{text} on {labels}");
        }
    }

    #[test]
    fn a_bus_is_there_on_some_boards_only() {
        for (text, labels, is_one) in [
            ("0.0", "bcm2835", true),
            ("3.0", "bcm2835", false),
            ("6.0", "bcm2711 bcm2835", true),
            ("6.0", "rp1", false),
            ("4.0", "rp1", false),
            ("5.0", "rp1", true),
            ("2.2", "rp1", false),
            ("2.2", "bcm2711", true),
            ("6.0", "of-another-maker", true),
            ("6.0", "bcm2835 bcm2711 rp1", true),
        ] {
            assert_eq!(is_there(device(text).unwrap(), &chips(labels)), is_one, "{text} on {labels}");
        }
    }
}
