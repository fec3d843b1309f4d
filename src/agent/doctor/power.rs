//! Whether the supply and the cooling are good enough, as the firmware saw it.
//!
//! Source: Raspberry Pi's documentation of `vcgencmd get_throttled`: bit 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft
//! temperature limit, now; bits 16 to 19 the same since boot. The kernel shows the bits in sysfs; without them `rpi_volt` of hwmon
//! has the first one.

use super::{Finding, Host, State, is_pi};

/// This check's name.
pub const ID: &str = "power";
const SUPPLY: &str = "use the official supply of this board, a short thick cable, and a powered hub for disks";
const COOLING: &str = "give it a heat sink or a fan, and air";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let Some(bits) = bits(host) else {
        return match is_pi(host) && (host.runs() || host.exists("/proc/device-tree/model")) {
            true => {
                Finding::unseen(ID, "the firmware does not tell here of supply and heat (a kernel that is not Raspberry Pi's)")
            }
            false if host.runs() => Finding::absent(ID, "no sensor for the supply here"),
            false => Finding::absent(ID, "how the supply is, is seen only where it runs"),
        };
    };
    let is = |bit: u32| bits & (1 << bit) != 0;
    let wrong = |state, what: &str| Finding::new(ID, state, format!("{what} (get_throttled 0x{bits:x})"));
    const UNDER: &str = "too little voltage slows the board down, upsets USB disks and damages what is written to cards";
    const HOT: &str = "the board runs slower than it could, and its pods with it";
    if is(0) {
        wrong(State::Problem, "the board gets too little voltage now").because(UNDER).todo(SUPPLY)
    } else if is(2) || is(3) || is(1) {
        wrong(State::Warning, "the board is slowed down now, for heat").because(HOT).todo(COOLING)
    } else if is(16) {
        wrong(State::Warning, "the board got too little voltage since it was booted").because(UNDER).todo(SUPPLY)
    } else if is(17) || is(18) || is(19) {
        wrong(State::Warning, "the board was slowed down since it was booted, for heat").because(HOT).todo(COOLING)
    } else {
        Finding::ok(ID, "no under-voltage and no throttling since boot")
    }
}

fn bits(host: &dyn Host) -> Option<u32> {
    let platform = "/sys/devices/platform";
    let socs = host.list(platform).into_iter().filter(|name| name == "soc" || name.starts_with("soc@"));
    let files = socs.flat_map(|soc| {
        let folder = format!("{platform}/{soc}");
        let firmware = host.list(&folder).into_iter().filter(|name| name.ends_with(":firmware"));
        firmware.map(move |name| format!("{folder}/{name}/get_throttled")).collect::<Vec<_>>()
    });
    let read = files.filter_map(|path| host.read(&path).text()).find_map(|text| hexadecimal(&text));
    read.or_else(|| hexadecimal(host.ask("vcgencmd", &["get_throttled"])?.trim().strip_prefix("throttled=")?))
        .or_else(|| alarm(host))
}

fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    // What `from_str_radix` takes besides; and all ones is what a bus says on which nobody answers.
    u32::from_str_radix(digits, 16).ok().filter(|bits| !digits.starts_with('+') && *bits != u32::MAX)
}

/// The kernel's own watch over the voltage: 1 for a while after it was too low.
fn alarm(host: &dyn Host) -> Option<u32> {
    let folder = "/sys/class/hwmon";
    host.list(folder).into_iter().map(|name| format!("{folder}/{name}")).find_map(|sensor| {
        let name = host.read(&format!("{sensor}/name")).text()?;
        let alarm = (name.trim() == "rpi_volt").then(|| host.read(&format!("{sensor}/in0_lcrit_alarm")).text())??;
        match alarm.trim() {
            "0" => Some(0),
            "1" => Some(1),
            _ => None,
        }
    })
}
