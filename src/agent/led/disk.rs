//! Hands: finds the board that this machine is, and the HATs on it, by setting, by device tree and by EEPROM.
//!
//! Every file of the machine is looked for below a root that tests replace; what a setting names is taken as it is.

use std::path::Path;

use crate::agent::config::{AgentConfig, Runtime};
use crate::agent::health::sysinfo::Sensors;
use crate::board::{Board, EMBEDDED, EMBEDDED_HATS, Hat};
use crate::error::{Chain, Report};

/// Where the firmware puts what a HAT's EEPROM says, below a root.
const EEPROM: &str = "proc/device-tree/hat";

/// The board of a node and the HATs on it: `board` and `leds.hats`, else what the machine tells. A simulated node is a board of messages.
///
/// # Errors
/// When a setting names what is not there or is wrong, with every fault in it.
pub fn of_node(config: &AgentConfig, root: &Path) -> Result<Board, Report> {
    let hats = match &config.hats {
        None if config.runtime == Runtime::Simulated => Ok(Vec::new()),
        names => each(names.as_deref(), root),
    };
    match (board_alone(config, root), hats) {
        (Ok(board), Ok(hats)) => together(board, &hats),
        (board, hats) => Err(all_of(board.err().into_iter().chain(hats.err().unwrap_or_default()).collect())),
    }
}

/// [`of_node`]; where the settings are wrong, the board without HATs, and what to say: LEDs never hold up pods. The board is the one that
/// is set, unless that setting is the wrong one: then it is what the machine tells.
#[must_use]
pub fn of_node_or_bare(config: &AgentConfig, root: &Path) -> (Board, Option<Report>) {
    let report = match of_node(config, root) {
        Ok(board) => return (board, None),
        Err(report) => report,
    };
    let bare = board_alone(config, root).or_else(|_| board(None, root)).unwrap_or_else(|_| Board::detect(&[]));
    (bare, Some(report))
}

/// The board of a node without its HATs.
fn board_alone(config: &AgentConfig, root: &Path) -> Result<Board, Report> {
    match config.board.as_deref() {
        None if config.runtime == Runtime::Simulated => Ok(Board::named("simulated").unwrap_or_else(|| Board::detect(&[]))),
        // What the machine is, although its containers are simulated.
        Some("auto") => board(None, root),
        name => board(name, root),
    }
}

/// Several settings that are wrong, as one report.
fn all_of(mut reports: Vec<Report>) -> Report {
    if reports.len() == 1
        && let Some(only) = reports.pop()
    {
        return only;
    }
    let whys: Vec<String> =
        reports.iter().filter_map(|report| Some(format!("{}: {}", report.what, Chain(report.why.as_deref()?)))).collect();
    let (whats, fixes): (Vec<String>, Vec<Option<String>>) = reports.into_iter().map(|report| (report.what, report.fix)).unzip();
    let mut fixes: Vec<String> = fixes.into_iter().flatten().collect();
    fixes.dedup();
    Report::usage(whats.join("; ")).because(whys.join("\n")).fix(fixes.join("\n"))
}

/// A board by name or file; `None`: what the machine is.
///
/// # Errors
/// When there is none of that name, or its file is wrong.
pub fn board(name: Option<&str>, root: &Path) -> Result<Board, Report> {
    let Some(name) = name else {
        return Ok(Board::detect(&Sensors::new(root, Path::new("/")).machine().compatible));
    };
    if let Some(board) = Board::named(name) {
        return Ok(board);
    }
    let text = read(name).map_err(|error| {
        Report::usage(format!("there is no board {name:?}"))
            .because(error)
            .fix(format!("set board to \"auto\", to a known board ({}), or to the path of a board file", known(EMBEDDED)))
    })?;
    Board::parse(&text).map_err(|error| unsound("board", name, error))
}

/// HATs by name or file; `None`: what their EEPROM tells, if they have one and it is known.
///
/// # Errors
/// When there is none of a name, or its file is wrong.
pub fn hats(names: Option<&[String]>, root: &Path) -> Result<Vec<Hat>, Report> {
    each(names, root).map_err(all_of)
}

/// [`hats`], with a report for each that is wrong.
fn each(names: Option<&[String]>, root: &Path) -> Result<Vec<Hat>, Vec<Report>> {
    let Some(names) = names else {
        return Ok(told(root).into_iter().collect());
    };
    let hat = |name: &String| {
        if let Some(hat) = Hat::named(name) {
            return Ok(hat);
        }
        let text = read(name).map_err(|error| {
            Report::usage(format!("there is no HAT {name:?}")).because(error).fix(format!(
                "set leds.hats to \"auto\", or to a list of known HATs ({}) and paths of HAT files",
                known(EMBEDDED_HATS)
            ))
        })?;
        Hat::parse(&text).map_err(|error| unsound("HAT", name, error))
    };
    let mut reports = Vec::new();
    let hats = names.iter().filter_map(|name| hat(name).map_err(|report| reports.push(report)).ok()).collect();
    if reports.is_empty() { Ok(hats) } else { Err(reports) }
}

/// A board with HATs on it.
///
/// # Errors
/// When two of them take the same pin, chip or LED.
pub fn together(board: Board, hats: &[Hat]) -> Result<Board, Report> {
    let what = match hats {
        [hat] => format!("HAT {:?} does not go on board {:?}", hat.name, board.name),
        _ => format!("these HATs do not go together on board {:?}", board.name),
    };
    board.with_hats(hats).map_err(|error| {
        Report::usage(what)
            .because(error)
            .fix("take one of them out of leds.hats, or write a HAT file with other pins; docs/boards.md has the format")
    })
}

fn told(root: &Path) -> Option<Hat> {
    let text = |name: &str| {
        let text = std::fs::read_to_string(root.join(EEPROM).join(name)).ok()?;
        Some(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
    };
    let version = text("product_ver").and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    Hat::detect(&text("product")?, version)
}

fn read(name: &str) -> std::io::Result<String> {
    std::fs::read_to_string(name)
}

/// The names of these files.
#[must_use]
pub fn known(list: &[(&str, &str)]) -> String {
    list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn unsound(what: &str, name: &str, error: crate::board::BoardError) -> Report {
    Report::usage(format!("the {what} file {name} cannot be used"))
        .because(error)
        .fix("mend it; `bramble leds check FILE` tells when it is right")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_tells_its_board_and_its_hat() {
        let compatible = ("proc/device-tree/compatible", "raspberrypi,4-model-b\0brcm,bcm2711\0");
        for (eeprom, hats, leds) in [
            (&[][..], "", 2),
            (
                &[("proc/device-tree/hat/product", "Sense HAT\0"), ("proc/device-tree/hat/product_ver", "0x0001\0")][..],
                "sense-hat",
                64,
            ),
            (
                &[("proc/device-tree/hat/product", "ZC4:ClusterHAT\0"), ("proc/device-tree/hat/product_ver", "0x0023\0")],
                "clusterhat",
                2,
            ),
            (
                &[("proc/device-tree/hat/product", "ZC4:ClusterHAT\0"), ("proc/device-tree/hat/product_ver", "0x0012\0")],
                "clusterhat-v1",
                2,
            ),
            (&[("proc/device-tree/hat/product", "Relay HAT\0")], "", 2),
        ] {
            let root = machine(&[&[compatible], eeprom].concat());
            let (board, hats_on_it) = (board(None, root.path()).unwrap(), super::hats(None, root.path()).unwrap());
            let made = together(board, &hats_on_it).unwrap();
            assert_eq!((made.name.as_str(), made.hats.join(" ").as_str(), made.leds.len()), ("rpi-4b", hats, leds), "{eeprom:?}");
        }
        assert_eq!(
            board(None, machine(&[("proc/device-tree/compatible", "linux,dummy-virt\0")]).path()).unwrap().name,
            "generic"
        );
        assert_eq!(board(None, machine(&[]).path()).unwrap().name, "generic");
    }

    #[test]
    fn a_wrong_hat_costs_no_board_and_all_settings_that_are_wrong_are_told() {
        let root = machine(&[("proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")]);
        let of = |settings: &str| {
            let file = root.path().join("agent.toml");
            std::fs::write(&file, format!("node = 'pi'\ncluster_uid = 'u'\n{settings}")).unwrap();
            let config = AgentConfig::load(Some((file.as_path(), crate::config::FileMay::BeMissing)), [], &[]).unwrap();
            let (board, report) = of_node_or_bare(&config, root.path());
            (board.name, board.hats.join(" "), report.map(|report| report.what).unwrap_or_default())
        };
        for (settings, board, hats, told) in [
            ("board = 'rpi-4b'\nleds.hats = ['blinkt']", "rpi-4b", "blinkt", ""),
            ("board = 'rpi-4b'\nleds.hats = ['nofile']", "rpi-4b", "", "there is no HAT \"nofile\""),
            (
                "board = 'rpi-4b'\nleds.hats = ['plain', 'clusterhat-v1']",
                "rpi-4b",
                "",
                "these HATs do not go together on board \"rpi-4b\"",
            ),
            ("leds.hats = ['nofile', 'blinkt', 'none']", "rpi-5", "", "there is no HAT \"nofile\"; there is no HAT \"none\""),
            ("board = 'toaster'\nleds.hats = ['blinkt']", "rpi-5", "", "there is no board \"toaster\""),
            (
                "board = 'toaster'\nleds.hats = ['nofile', 'none']",
                "rpi-5",
                "",
                "there is no board \"toaster\"; there is no HAT \"nofile\"; there is no HAT \"none\"",
            ),
            ("runtime = 'simulated'\nleds.hats = ['nofile']", "simulated", "", "there is no HAT \"nofile\""),
        ] {
            assert_eq!(of(settings), (board.to_owned(), hats.to_owned(), told.to_owned()), "{settings}");
        }
    }

    #[test]
    fn files_of_ones_own_are_taken_and_what_is_wrong_is_told_whole() {
        let folder = machine(&[
            ("b.toml", &crate::board::EMBEDDED.iter().find(|(name, _)| *name == "rpi-5").unwrap().1.replace("rpi-5", "mine")),
            (
                "h.toml",
                "kind = 'hat'\nname = 'mine'\ntitle = 'Mine'\n[[led]]\nname = 'x'\npin = 4\ncolour = 'red'\nshows = 'pod'\n",
            ),
            ("bad.toml", "kind = 'hat'\nname = 'bad'\n[[led]]\nname = 'x'\npin = 40\ncolour = 'red'\nshows = 'pod'\n"),
        ]);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mine = board(Some(&path("b.toml")), folder.path()).unwrap();
        let on_it = super::hats(Some(&[path("h.toml"), "blinkt".into()]), folder.path()).unwrap();
        assert_eq!(together(mine, &on_it).unwrap().hats, ["mine", "blinkt"]);
        let words = |report: Report| {
            format!(
                "{} {} {}",
                report.what,
                report.why.map_or(String::new(), |why| why.to_string()),
                report.fix.unwrap_or_default()
            )
        };
        let told = words(super::hats(Some(&[path("bad.toml")]), folder.path()).unwrap_err());
        assert!(
            told.contains("line 1: title: missing") && told.contains("line 5: LED \"x\": pin") && told.contains("leds check"),
            "{told}"
        );
        let told = words(super::hats(Some(&["toaster".into()]), folder.path()).unwrap_err());
        assert!(told.contains("there is no HAT \"toaster\"") && told.contains("blinkt, clusterhat"), "{told}");
        let told = words(
            together(
                board(Some("rpi-4b"), folder.path()).unwrap(),
                &super::hats(Some(&["plain".into(), "plain".into()]), folder.path()).unwrap(),
            )
            .unwrap_err(),
        );
        assert!(told.contains("do not go together") && told.contains("used twice"), "{told}");
    }
}
