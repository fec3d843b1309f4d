//! The I2C buses of the Pis: which pins of the header they take.
//!
//! In:       a bus; the labels that the header's GPIO chip may have.
//! Out:      its pins. None for a bus that is not the chip's own: the kernel makes one of any two pins (`dtoverlay=i2c-gpio,bus=3`), and
//!           which, only `config.txt` tells.
//! Source:   the device tree overlays of Raspberry Pi's kernel (`i2c0` … `i2c6`, and those that end with `-pi5`), with the pins that they
//!           take when nobody says otherwise.

use super::spi::{BCM2711, BCM2835, RP1};

/// The highest number of a bus: Raspberry Pi's kernel gives away some above 20 itself.
pub(super) const HIGHEST: u64 = 31;

/// Chip, number, and data and clock line.
const BUSES: [(&str, u8, [u8; 2]); 12] = [
    (BCM2835, 0, [0, 1]),
    (BCM2835, 1, [2, 3]),
    (BCM2711, 0, [0, 1]),
    (BCM2711, 1, [2, 3]),
    (BCM2711, 3, [4, 5]),
    (BCM2711, 4, [8, 9]),
    (BCM2711, 5, [12, 13]),
    (BCM2711, 6, [22, 23]),
    (RP1, 0, [0, 1]),
    (RP1, 1, [2, 3]),
    (RP1, 2, [4, 5]),
    (RP1, 3, [6, 7]),
];

/// The pins of this bus on each of these chips that has it.
fn on(bus: u8, chips: &[String]) -> impl Iterator<Item = [u8; 2]> + '_ {
    let is_it = move |(chip, number, _): &&(&str, u8, [u8; 2])| *number == bus && chips.iter().any(|known| known == chip);
    BUSES.iter().filter(is_it).map(|(_, _, pins)| *pins)
}

/// The pins that it takes. Where the chips do not agree, none: which it is, only the board can tell.
pub(super) fn pins(bus: u8, chips: &[String]) -> Vec<u8> {
    let mut all = on(bus, chips);
    let first = all.next();
    first.filter(|first| all.all(|other| other == *first)).map(|pins| pins.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pins_of_a_bus_are_those_of_the_board_s_chip() {
        for (bus, labels, pins) in [
            (0, "bcm2835", "[0, 1]"),
            (1, "bcm2835 bcm2711 rp1", "[2, 3]"),
            (2, "bcm2835", "[]"),
            (2, "bcm2711 bcm2835", "[]"),
            (2, "rp1", "[4, 5]"),
            (3, "bcm2835", "[]"),
            (3, "bcm2711 bcm2835", "[4, 5]"),
            (3, "rp1", "[6, 7]"),
            // Which board it is for is not known.
            (3, "bcm2835 bcm2711 rp1", "[]"),
            (4, "bcm2835 bcm2711 rp1", "[8, 9]"),
            (4, "rp1", "[]"),
            (6, "bcm2711", "[22, 23]"),
            (6, "of-another-maker", "[]"),
        ] {
            let chips: Vec<String> = labels.split(' ').map(|label| format!("pinctrl-{label}")).collect();
            assert_eq!(format!("{:?}", super::pins(bus, &chips)), pins, "{bus} on {labels}");
        }
    }
}
