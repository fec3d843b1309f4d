//! Hands: LEDs of the kernel's class: those on the board, and whatever an overlay adds.
//!
//! Source: the kernel's Documentation/leds: `/sys/class/leds/<name>/{brightness,max_brightness,trigger}`; a trigger is switched off by
//! writing `none` first, else it goes on writing; LEDs of several colours have `multi_index` and `multi_intensity` besides.

use std::io;
use std::path::{Path, PathBuf};

use super::super::{DriverError, Light};
use super::worker::{Attempt, Part};
use crate::board::{ClassLed, Died};

/// Where the class is, below a root.
const CLASS: &str = "sys/class/leds";

pub(super) struct ClassPart {
    root: PathBuf,
    leds: Vec<Slot>,
}

struct Slot {
    name: String,
    led: ClassLed,
    taken: Result<Taken, DriverError>,
}

/// An LED that we took from its trigger, until it is given back.
struct Taken {
    folder: PathBuf,
    most: u32,
    /// Names of its colours, when it has several.
    colours: Vec<String>,
    /// What the kernel showed by it.
    trigger: String,
    brightness: String,
    shown: Option<Light>,
}

fn not_yet() -> Result<Taken, DriverError> {
    Err(DriverError { words: String::new() })
}

impl ClassPart {
    /// `leds`: each with the name that it has on the board.
    pub(super) fn new(root: &Path, leds: Vec<(String, ClassLed)>) -> Self {
        let leds = leds.into_iter().map(|(name, led)| Slot { name, led, taken: not_yet() }).collect();
        Self { root: root.join(CLASS), leds }
    }
}

impl Part for ClassPart {
    fn show(&mut self, lights: &[Light], attempt: Attempt) -> Result<(), DriverError> {
        let mut faults = Vec::new();
        for (slot, light) in self.leds.iter_mut().zip(lights) {
            if slot.taken.is_err() && attempt == Attempt::Open {
                slot.taken = take(&self.root, &slot.led).map_err(|error| refused(&slot.name, &slot.led, &error));
            }
            let shown = match &mut slot.taken {
                Ok(taken) => taken.show(*light).map_err(|error| refused(&slot.name, &slot.led, &error)),
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = shown {
                faults.push(error.words.clone());
                slot.taken = Err(error);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(DriverError { words: faults.join("; ") }) }
    }

    fn works(&self) -> bool {
        self.leds.iter().any(|slot| slot.taken.is_ok())
    }

    fn forget(&mut self) {
        // The other one gave them their triggers back: they are taken from them again.
        self.leds.iter_mut().for_each(|slot| slot.taken = not_yet());
    }

    fn leave(&mut self) {
        for slot in &self.leds {
            if let Ok(taken) = &slot.taken {
                taken.give_back(&slot.led);
            }
        }
    }
}

impl Taken {
    fn show(&mut self, light: Light) -> io::Result<()> {
        if self.shown == Some(light) {
            return Ok(());
        }
        let level = if self.colours.is_empty() {
            // What is lit stays lit, also where 1 is all there is.
            (u64::from(light.level()) * u64::from(self.most)).div_ceil(255)
        } else {
            let intensity = |colour: &String| match colour.as_str() {
                "red" => light.red,
                "green" => light.green,
                "blue" => light.blue,
                "white" => light.red.min(light.green).min(light.blue),
                _ => 0,
            };
            let told: Vec<String> = self.colours.iter().map(|colour| intensity(colour).to_string()).collect();
            std::fs::write(self.folder.join("multi_intensity"), told.join(" "))?;
            if light.is_lit() { u64::from(self.most) } else { 0 }
        };
        std::fs::write(self.folder.join("brightness"), level.to_string())?;
        self.shown = Some(light);
        Ok(())
    }

    /// The kernel has it again, as it had it before.
    fn give_back(&self, led: &ClassLed) {
        let trigger = if self.trigger == "none" { led.trigger.as_str() } else { self.trigger.as_str() };
        // Nobody is left to hear of a failure.
        let _ = std::fs::write(self.folder.join("brightness"), "0");
        if trigger == "none" {
            let _ = std::fs::write(self.folder.join("brightness"), &self.brightness);
        } else {
            let _ = set_trigger(&self.folder, trigger);
        }
    }
}

fn take(class: &Path, led: &ClassLed) -> io::Result<Taken> {
    let folder = find(class, led)?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let most = read("max_brightness")?.trim().parse().unwrap_or(1).max(1);
    let colours = read("multi_index").map(|text| text.split_whitespace().map(str::to_owned).collect()).unwrap_or_default();
    let (triggers, brightness) = (read("trigger")?, read("brightness")?.trim().to_owned());
    // What an agent that died left is not what the kernel showed.
    let trigger = if was_left(&triggers, led) { "none" } else { current(&triggers) }.to_owned();
    std::fs::write(folder.join("trigger"), "none")?;
    Ok(Taken { folder, most, colours, trigger, brightness, shown: None })
}

fn find(class: &Path, led: &ClassLed) -> io::Result<PathBuf> {
    let found = led.names.iter().map(|name| class.join(name)).find(|folder| folder.join("brightness").exists());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the kernel has no such LED"))
}

/// The trigger in brackets: `none [mmc0] timer`.
fn current(triggers: &str) -> &str {
    triggers.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']')).unwrap_or("none")
}

fn set_trigger(folder: &Path, trigger: &str) -> io::Result<()> {
    std::fs::write(folder.join("trigger"), trigger)
}

fn refused(name: &str, led: &ClassLed, error: &io::Error) -> DriverError {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "run the agent as root, or give its user the right to write there",
        io::ErrorKind::NotFound => "see what `ls /sys/class/leds` has, and name that in a board file of your own (class = …)",
        _ => "see the kernel's log",
    };
    let places: Vec<String> = led.names.iter().map(|name| format!("/{CLASS}/{name}")).collect();
    DriverError { words: format!("LED {name:?}: cannot use {}: {error}; {fix}", places.join(" or ")) }
}

/// What the kernel is to show by these LEDs after an agent that died: what the board file says, else what it showed at first.
pub(super) fn leave_to_the_kernel<'a>(root: &Path, leds: impl IntoIterator<Item = &'a ClassLed>) {
    for led in leds {
        let Ok(folder) = find(&root.join(CLASS), led) else { continue };
        // The unit's end: what one LED refuses is no reason to leave the others, and nobody is left to hear of it.
        let _ = std::fs::write(folder.join("trigger"), "none");
        let _ = std::fs::write(folder.join("brightness"), "0");
        let _ = match &led.died {
            Some(died) => die(&folder, died),
            None => set_trigger(&folder, &led.trigger),
        };
    }
}

/// Shown after an agent that died by a kernel that has not the trigger which the board file names.
const FALLBACK: &str = "heartbeat";

/// Whether an agent that died left the trigger that is set among these.
fn was_left(triggers: &str, led: &ClassLed) -> bool {
    let set = current(triggers);
    led.died.as_ref().is_some_and(|died| {
        let has = triggers.split_whitespace().any(|word| word.trim_matches(['[', ']']) == died.trigger);
        died.trigger == set || (set == FALLBACK && !has && led.trigger != FALLBACK)
    })
}

fn die(folder: &Path, died: &Died) -> io::Result<()> {
    // A kernel without the trigger refuses it. `heartbeat` is in all of Raspberry Pi's.
    set_trigger(folder, &died.trigger).or_else(|_| set_trigger(folder, FALLBACK))?;
    if let Some((on, off)) = died.blink {
        // The files come with the trigger.
        std::fs::write(folder.join("delay_on"), on.as_millis().to_string())?;
        std::fs::write(folder.join("delay_off"), off.as_millis().to_string())?;
    }
    Ok(())
}

/// Takes back from these LEDs what an agent that died left on them: nobody drives them now.
pub(super) fn wake_up<'a>(root: &Path, leds: impl IntoIterator<Item = &'a ClassLed>) {
    for led in leds {
        let Ok(folder) = find(&root.join(CLASS), led) else { continue };
        let triggers = std::fs::read_to_string(folder.join("trigger")).unwrap_or_default();
        if was_left(&triggers, led) {
            // It is the kernel's: one that refuses goes on as it is.
            let _ = set_trigger(&folder, &led.trigger);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    /// A tree like the kernel's. A file does not answer as the kernel does: what is written to `trigger` stands there without brackets.
    pub(in super::super) fn tree(leds: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, triggers, most) in leds {
            let folder = root.path().join(CLASS).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("trigger", *triggers), ("max_brightness", most), ("brightness", "0\n")] {
                std::fs::write(folder.join(file), text).unwrap();
            }
        }
        root
    }

    pub(in super::super) fn reads(root: &Path, file: &str) -> String {
        std::fs::read_to_string(root.join(CLASS).join(file)).unwrap_or_default()
    }

    fn act() -> ClassLed {
        ClassLed {
            names: vec!["ACT".into(), "led0".into()],
            trigger: "mmc0".into(),
            died: Some(Died { trigger: "timer".into(), blink: Some((Duration::from_millis(100), Duration::from_millis(900))) }),
        }
    }

    fn part(root: &Path) -> ClassPart {
        ClassPart::new(root, vec![("node".into(), act())])
    }

    #[test]
    fn the_first_name_that_is_there_is_taken_from_its_trigger_and_given_back() {
        let root = tree(&[("led0", "none usb-gadget [heartbeat] mmc0 timer", "255")]);
        let mut part = part(root.path());
        part.show(&[Light::DARK], Attempt::Open).unwrap();
        assert_eq!((reads(root.path(), "led0/trigger"), reads(root.path(), "led0/brightness")), ("none".into(), "0".into()));
        for (light, brightness) in [(Light::white(255), "255"), (Light { red: 0, green: 40, blue: 3 }, "40"), (Light::DARK, "0")]
        {
            part.show(&[light], Attempt::AsIs).unwrap();
            assert_eq!(reads(root.path(), "led0/brightness"), brightness);
        }
        part.leave();
        assert_eq!(reads(root.path(), "led0/trigger"), "heartbeat", "somebody had set it to that");
    }

    #[test]
    fn where_one_is_all_there_is_a_dim_light_is_lit() {
        let root = tree(&[("ACT", "[mmc0]", "1")]);
        let mut part = part(root.path());
        part.show(&[Light { red: 3, green: 0, blue: 0 }], Attempt::Open).unwrap();
        assert_eq!(reads(root.path(), "ACT/brightness"), "1");
    }

    #[test]
    fn what_an_agent_that_died_left_is_not_put_back() {
        for left in ["none mmc0 [timer]", "[none] mmc0", "none mmc0 [heartbeat]"] {
            let root = tree(&[("ACT", left, "255")]);
            let mut part = part(root.path());
            part.show(&[Light::DARK], Attempt::Open).unwrap();
            part.leave();
            assert_eq!(reads(root.path(), "ACT/trigger"), "mmc0", "{left}");
        }
    }

    #[test]
    fn several_colours_are_written_in_the_order_of_the_kernel() {
        let root = tree(&[("ACT", "[none]", "255")]);
        std::fs::write(root.path().join(CLASS).join("ACT/multi_index"), "green blue red\n").unwrap();
        let mut part = part(root.path());
        part.show(&[Light { red: 1, green: 2, blue: 3 }], Attempt::Open).unwrap();
        assert_eq!(
            (reads(root.path(), "ACT/multi_intensity"), reads(root.path(), "ACT/brightness")),
            ("2 3 1".into(), "255".into())
        );
        part.show(&[Light::DARK], Attempt::AsIs).unwrap();
        assert_eq!(reads(root.path(), "ACT/brightness"), "0");
    }

    #[test]
    fn one_that_is_not_there_is_told_with_the_fix_and_found_later() {
        let root = tree(&[("PWR", "[default-on]", "255")]);
        let pwr = ClassLed { names: vec!["PWR".into()], trigger: "default-on".into(), died: None };
        let mut part = ClassPart::new(root.path(), vec![("node".into(), act()), ("power".into(), pwr)]);
        let lights = [Light::white(255); 2];
        let told = part.show(&lights, Attempt::Open).unwrap_err().words;
        assert!(
            told.contains("LED \"node\"")
                && told.contains("/sys/class/leds/ACT or /sys/class/leds/led0")
                && told.contains("ls /sys/class/leds"),
            "{told}"
        );
        assert_eq!(reads(root.path(), "PWR/brightness"), "255", "the other one burns");
        let later = tree(&[("ACT", "[mmc0]", "255")]);
        std::fs::rename(later.path().join(CLASS).join("ACT"), root.path().join(CLASS).join("ACT")).unwrap();
        assert_eq!(part.show(&lights, Attempt::AsIs).unwrap_err().words, told, "not yet looked for");
        part.show(&lights, Attempt::Open).unwrap();
        assert_eq!(reads(root.path(), "ACT/brightness"), "255");
    }

    #[test]
    fn after_a_death_the_kernel_blinks_the_led_and_keeps_the_others() {
        let root = tree(&[("ACT", "[none] mmc0 timer", "255"), ("led1", "[none] default-on", "255")]);
        let pwr = ClassLed { names: vec!["PWR".into(), "led1".into()], trigger: "default-on".into(), died: None };
        leave_to_the_kernel(root.path(), [&act(), &pwr]);
        let told = |file: &str| reads(root.path(), file);
        assert_eq!(
            (told("ACT/trigger"), told("ACT/delay_on"), told("ACT/delay_off")),
            ("timer".into(), "100".into(), "900".into())
        );
        assert_eq!(told("led1/trigger"), "default-on");
        // The next agent, whose HAT shows the node, gives it back.
        std::fs::write(root.path().join(CLASS).join("ACT/trigger"), "none mmc0 [timer]").unwrap();
        wake_up(root.path(), [&act(), &pwr]);
        assert_eq!((told("ACT/trigger"), told("led1/trigger")), ("mmc0".into(), "default-on".into()));
    }

    #[test]
    fn without_the_right_to_write_there_it_says_so() {
        if rustix::process::geteuid().is_root() {
            // Root may write anywhere; the words are held to all the same.
            let told = refused("node", &act(), &io::Error::from(io::ErrorKind::PermissionDenied)).words;
            assert!(told.contains("run the agent as root"), "{told}");
            return;
        }
        let root = tree(&[("ACT", "[mmc0]", "255")]);
        let file = root.path().join(CLASS).join("ACT/trigger");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
        let told = part(root.path()).show(&[Light::DARK], Attempt::Open).unwrap_err().words;
        assert!(told.contains("run the agent as root"), "{told}");
    }
}
