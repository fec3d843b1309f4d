//! Whether the SD card or eMMC that the machine lives on is worn out: by its own registers, else by what was written to it.
//!
//! Source: the kernel's mmc-dev-attrs (`life_time`: two figures in steps of 10 %, `0x01` = 0 to 10 % used, `0x0b` = beyond its life;
//! `pre_eol_info`: `0x02` = 80 % of the spare blocks are used, `0x03` = 90 %; JEDEC eMMC 5.0). An SD card has no such registers: there
//! ext4's own count of what was ever written (`lifetime_write_kbytes`) stands against a rule of thumb.

use super::{Finding, Host, State, medium};

/// This check's name.
pub const ID: &str = "card-wear";
/// So often a common card can be written over as a whole. A rule of thumb: 1,000 cycles of its cells, each write costing four.
const REWRITES: u64 = 250;
/// From here on it is told, percent of the estimate.
const TELL_PERCENT: u64 = 80;
const WHY: &str = "a worn-out card turns read-only or loses files, without a warning of its own";
const FIX: &str =
    "copy it to a new card (made for endurance) or to an SSD while it still reads; take the copy before anything else";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let Some(mount) = medium::mount_of(host, "/") else { return Finding::absent(ID, "nothing runs from this root") };
    let Some(disk) = medium::disk_of(host, &mount.device).filter(|disk| medium::is_card(disk)) else {
        return Finding::absent(ID, "the system is not on an SD card or eMMC");
    };
    let device = format!("/sys/block/{disk}/device");
    let kind =
        if host.read(&format!("{device}/type")).text().is_some_and(|kind| kind.trim() == "MMC") { "eMMC" } else { "SD card" };
    registers(host, &device, kind).or_else(|| written(host, &mount.device, &disk, kind)).unwrap_or_else(|| {
        Finding::unseen(ID, format!("the {kind} has no register for its wear, and its file system counts nothing"))
    })
}

fn registers(host: &dyn Host, device: &str, kind: &str) -> Option<Finding> {
    let hexadecimal = |word: &str| u8::from_str_radix(word.trim().strip_prefix("0x")?, 16).ok();
    let lives = host.read(&format!("{device}/life_time")).text()?;
    // 0 is "not told"; beyond 0x0b nothing is defined.
    let life = lives.split_ascii_whitespace().filter_map(hexadecimal).filter(|life| (1..=0x0b).contains(life)).max();
    let spare = host
        .read(&format!("{device}/pre_eol_info"))
        .text()
        .as_deref()
        .and_then(hexadecimal)
        .filter(|spare| (1..=3).contains(spare));
    let used = life.map(|life| {
        if life == 0x0b { "beyond its rated life".to_owned() } else { format!("{} to {} % used", (life - 1) * 10, life * 10) }
    });
    let wrong = |state, what: String| Finding::new(ID, state, what).because(WHY).todo(FIX);
    Some(match (life, spare) {
        (None, None) => return None,
        (Some(0x0b), _) => wrong(State::Problem, format!("the {kind} is beyond its rated life")),
        (_, Some(3)) => wrong(State::Problem, format!("the {kind} has used 90 % of its spare blocks")),
        (Some(0x09..), _) => wrong(State::Warning, format!("the {kind} is {}", used.unwrap_or_default())),
        (_, Some(2)) => wrong(State::Warning, format!("the {kind} has used 80 % of its spare blocks")),
        _ => Finding::ok(ID, format!("the {kind} is {}", used.unwrap_or_else(|| "within its spare blocks".to_owned()))),
    })
}

fn written(host: &dyn Host, partition: &str, disk: &str, kind: &str) -> Option<Finding> {
    let number = |path: String| host.read(&path).text()?.trim().parse::<u64>().ok();
    let partition = host.link(partition).unwrap_or_else(|| partition.to_owned());
    let name = match partition.rsplit('/').next()? {
        "root" => host.list("/sys/fs/ext4").into_iter().find(|name| name.starts_with(disk))?,
        name => name.to_owned(),
    };
    let written = number(format!("/sys/fs/ext4/{name}/lifetime_write_kbytes"))?.checked_mul(1024)?;
    let size = number(format!("/sys/block/{disk}/size"))?.checked_mul(512).filter(|size| *size > 0)?;
    let estimate = size.checked_mul(REWRITES)?;
    let percent = u64::try_from(u128::from(written) * 100 / u128::from(estimate)).ok()?;
    let told = format!(
        "{} GB were written to the {kind}, about {percent} % of what one of its size endures (an estimate)",
        written / 1_000_000_000
    );
    Some(match percent {
        TELL_PERCENT.. => Finding::new(ID, State::Warning, told).because(WHY).todo(FIX),
        _ => Finding::ok(ID, told),
    })
}
