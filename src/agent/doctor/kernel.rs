//! Whether a board that could run a 64-bit kernel runs a 32-bit one: most images are built for arm64 alone.
//!
//! Source: the compatible strings of the SoCs; `/proc/sys/kernel/arch` (Linux 6.1), and before it `CPU architecture` in
//! `/proc/cpuinfo`, which a 32-bit kernel gives as 7 on an ARMv8 core too.

use super::{Finding, Host, State, is_pi};

/// This check's name.
pub const ID: &str = "kernel-bits";
const SOCS_OF_64_BIT: &[&str] = &["brcm,bcm2837", "brcm,bcm2710", "brcm,bcm2711", "brcm,bcm2712"];
/// Below this 32 bits are the better choice: programs are smaller.
const SMALL_KIB: u64 = 768 * 1024;

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let tree = host.read("/proc/device-tree/compatible").text().unwrap_or_default();
    if !is_pi(host) || tree.is_empty() {
        return Finding::absent(ID, "not a Raspberry Pi that runs");
    }
    if !tree.split('\0').any(|name| SOCS_OF_64_BIT.contains(&name.trim())) {
        return Finding::absent(ID, "this board has 32 bits only");
    }
    let arch = host.read("/proc/sys/kernel/arch").text();
    let is_64 = arch.map(|arch| arch.trim() == "aarch64").or_else(|| {
        let text = host.read("/proc/cpuinfo").text()?;
        let line = text.lines().find_map(|line| line.strip_prefix("CPU architecture"))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim() == "8")
    });
    let memory_kib = host.read("/proc/meminfo").text().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<u64>().ok())
    });
    match is_64 {
        None => Finding::unseen(ID, "what kernel this is"),
        Some(true) => Finding::ok(ID, "a 64-bit kernel on a 64-bit board"),
        Some(false) if memory_kib.is_some_and(|kib| kib < SMALL_KIB) => {
            Finding::ok(ID, "a 32-bit kernel on a 64-bit board, which suits its little memory; images for arm64 do not run here")
        }
        Some(false) => Finding::new(ID, State::Warning, "a 32-bit kernel runs on a 64-bit board")
            .because("images that are built for arm64 alone, and that is most of them, do not run here")
            .todo("flash the 64-bit Raspberry Pi OS; on the 32-bit one, `arm_64bit=1` in config.txt and a reboot give the kernel 64 bits, and its programs stay as they are"),
    }
}
