//! What is read of a board besides memory and disks: words. `None` is *unknown*: there is no such sensor, or it says nonsense.

/// The firmware's word on power and heat: `vcgencmd get_throttled`.
///
/// Source: Raspberry Pi documentation, `vcgencmd`: bits 0 to 3 are under-voltage, the processor's rate capped, throttled, and the soft
/// temperature limit, now; bits 16 to 19 are the same, since the firmware was last asked to forget them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// All bits.
    pub bits: u32,
    /// Bits 16 to 19 tell of the last seconds, not of all time since boot: the kernel's voltage driver (`rpi_volt`) asks the firmware
    /// every 2 s, and makes it forget.
    pub forgets: bool,
}

/// One thing that the firmware tells, by its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Less than 4.63 V.
    UnderVoltage = 0,
    /// The processor's rate is capped.
    Capped = 1,
    /// The processor is throttled.
    Throttled = 2,
    /// The soft temperature limit holds (3A+ and 3B+).
    SoftLimit = 3,
}

/// Those that say that the processor is slowed down.
pub const SLOWS: [Flag; 3] = [Flag::Capped, Flag::Throttled, Flag::SoftLimit];

impl Throttle {
    /// Bits 0 to 3 and 16 to 19; a newer firmware may tell more.
    const KNOWN: u32 = 0x000f_000f;

    /// Reads the bits that are known from what the firmware's file says: hexadecimal, with or without `0x`. `None`: it is no such number.
    #[must_use]
    pub fn parse(text: &str) -> Option<u32> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").unwrap_or(text);
        // What `from_str_radix` takes besides.
        let plain = !digits.starts_with('+');
        // All ones is what a bus says on which nobody answers.
        u32::from_str_radix(digits, 16).ok().filter(|bits| plain && *bits != u32::MAX).map(|bits| bits & Self::KNOWN)
    }

    /// Whether it is so now.
    #[must_use]
    pub fn now(self, flag: Flag) -> bool {
        self.bits & (1 << flag as u32) != 0
    }

    /// Whether it was so before.
    #[must_use]
    pub fn before(self, flag: Flag) -> bool {
        self.bits & (1 << (16 + flag as u32)) != 0
    }
}

/// How worn the manufacturer of an eMMC says that it is. Source: JEDEC eMMC 5.0, `EXT_CSD[268]`, `[269]` and `[267]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmmcLife {
    /// Of its writes, in steps of ten percent: the worse of both kinds of memory, at its upper end. 110: more than it was made for.
    pub used_percent: Option<u8>,
    /// Of its spare blocks.
    pub spare: Option<Spare>,
}

/// How many spare blocks are left (`pre_eol_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// Enough.
    Normal,
    /// 80 % are used.
    Warning,
    /// 90 % are used.
    Urgent,
}

impl Spare {
    /// For the message.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Spare::Normal => "normal",
            Spare::Warning => "warning",
            Spare::Urgent => "urgent",
        }
    }
}

/// How a board is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hardware {
    /// What the firmware says of power and heat.
    pub throttle: Option<Throttle>,
    /// The processor's.
    pub temperature_celsius: Option<f32>,
    /// The processor's rate.
    pub cpu_mhz: Option<u32>,
    /// The most that it may be.
    pub cpu_max_mhz: Option<u32>,
    /// On the device that the machine started from, since then.
    pub disk_written_bytes: Option<u64>,
    /// How worn an eMMC is.
    pub emmc: EmmcLife,
    /// Of the first wireless interface that is connected.
    pub wifi_signal_dbm: Option<i32>,
    /// Whether that one sleeps between packets: then a node answers late, or not at all.
    pub wifi_power_save: Option<bool>,
    /// Whether the clock follows another.
    pub time_synchronized: Option<bool>,
}

/// What a machine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An SD card.
    Sd,
    /// Flash on the board.
    Emmc,
    /// A stick or disk on USB.
    Usb,
    /// An NVMe disk.
    Nvme,
    /// Another disk: SATA, SCSI, a virtual one.
    Disk,
    /// Over the network.
    Network,
    /// It lives in memory.
    Memory,
}

impl Medium {
    /// For the message.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Medium::Sd => "sd",
            Medium::Emmc => "emmc",
            Medium::Usb => "usb",
            Medium::Nvme => "nvme",
            Medium::Disk => "disk",
            Medium::Network => "network",
            Medium::Memory => "memory",
        }
    }
}

/// What the machine started from; it does not change while it runs. Empty where it is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Of which kind it is.
    pub medium: Option<Medium>,
    /// The kernel's name of the whole device, such as `mmcblk0`.
    pub device: String,
    /// A card's own name, such as `SC32G`.
    pub card_name: String,
    /// When it was made: `03/2021`.
    pub card_date: String,
    /// Who made it, by number: `0x000003`.
    pub card_manufacturer_id: String,
    /// Its serial number: `0x1f2e3d4c`.
    pub card_serial: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_the_firmware_is_read_and_nonsense_is_unknown() {
        let flags = [Flag::UnderVoltage, Flag::Capped, Flag::Throttled, Flag::SoftLimit];
        for (text, now, before) in [
            ("0", [0, 0, 0, 0], [0, 0, 0, 0]),
            ("50005\n", [1, 0, 1, 0], [1, 0, 1, 0]),
            ("0xf000a", [0, 1, 0, 1], [1, 1, 1, 1]),
            ("80010", [0, 0, 0, 0], [0, 0, 0, 1]),
        ] {
            let throttle = Throttle { bits: Throttle::parse(text).unwrap(), forgets: false };
            assert_eq!(flags.map(|flag| u8::from(throttle.now(flag))), now, "{text}");
            assert_eq!(flags.map(|flag| u8::from(throttle.before(flag))), before, "{text}");
        }
        for nonsense in ["", "0x", "-1", "+5", "yes", "50005 5", "fffffffff", "ffffffff", "\u{0}\u{0}"] {
            assert_eq!(Throttle::parse(nonsense), None, "{nonsense}");
        }
    }
}
