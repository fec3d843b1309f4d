//! Board files, HAT files, and what they make together.

use std::collections::BTreeSet;

use super::*;

fn folder(name: &str) -> BTreeSet<String> {
    std::fs::read_dir(format!("{}/boards/{name}", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect()
}

fn names(list: &[(&str, &str)]) -> BTreeSet<String> {
    list.iter().map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn the_embedded_lists_are_the_folders_and_every_file_is_sound() {
    assert_eq!(names(EMBEDDED), folder(""));
    assert_eq!(names(EMBEDDED_HATS), folder("hats"));
    for (name, text) in EMBEDDED {
        let board = Board::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(board.name, *name);
        assert!(Hat::parse(text).unwrap_err().to_string().contains("describes a board"));
    }
    for (name, text) in EMBEDDED_HATS {
        let hat = Hat::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(hat.name, *name);
        assert!(!hat.leds.is_empty());
        assert!(Board::parse(text).unwrap_err().to_string().contains("describes a HAT"));
        for (board, _) in EMBEDDED {
            Board::named(board)
                .unwrap()
                .with_hats(std::slice::from_ref(&hat))
                .unwrap_or_else(|error| panic!("{name} on {board}: {error}"));
        }
    }
}

#[test]
fn a_board_is_told_by_its_device_tree() {
    // The `compatible` strings of the Pis' device trees, mainline and Raspberry Pi's own, most specific first.
    for (compatible, board) in [
        ("raspberrypi,model-b raspberrypi,model-b-i2c0 brcm,bcm2835", "rpi-1"),
        ("raspberrypi,model-b-rev2 brcm,bcm2835", "rpi-1"),
        ("raspberrypi,model-b-plus brcm,bcm2835", "rpi-1"),
        ("raspberrypi,model-a-plus brcm,bcm2835", "rpi-1"),
        ("raspberrypi,compute-module brcm,bcm2835", "rpi-1"),
        ("raspberrypi,model-zero brcm,bcm2835", "rpi-zero"),
        ("raspberrypi,model-zero-w brcm,bcm2835", "rpi-zero-w"),
        ("raspberrypi,model-zero-2-w brcm,bcm2837", "rpi-zero-2w"),
        ("raspberrypi,model-zero-2 brcm,bcm2837", "rpi-zero-2w"),
        ("raspberrypi,2-model-b brcm,bcm2836", "rpi-2b"),
        ("raspberrypi,2-model-b-rev2 brcm,bcm2837", "rpi-2b"),
        ("raspberrypi,3-model-b brcm,bcm2837", "rpi-3b"),
        ("raspberrypi,3-model-b-plus brcm,bcm2837", "rpi-3b-plus"),
        ("raspberrypi,3-model-a-plus brcm,bcm2837", "rpi-3a-plus"),
        ("raspberrypi,3-compute-module brcm,bcm2837", "rpi-cm3"),
        ("raspberrypi,3-compute-module-plus brcm,bcm2837", "rpi-cm3"),
        ("raspberrypi,4-model-b brcm,bcm2711", "rpi-4b"),
        ("raspberrypi,400 brcm,bcm2711", "rpi-400"),
        ("raspberrypi,4-compute-module brcm,bcm2711", "rpi-cm4"),
        ("raspberrypi,4-compute-module-io raspberrypi,4-compute-module brcm,bcm2711", "rpi-cm4"),
        ("raspberrypi,4-compute-module-s brcm,bcm2711", "rpi-cm4"),
        ("raspberrypi,5-model-b brcm,bcm2712", "rpi-5"),
        ("raspberrypi,500 brcm,bcm2712", "rpi-500"),
        ("raspberrypi,5-compute-module brcm,bcm2712", "rpi-cm5"),
        ("linux,dummy-virt", "generic"),
        ("acme,toaster brcm,bcm2711", "generic"),
        ("", "generic"),
    ] {
        let strings: Vec<String> = compatible.split_whitespace().map(str::to_owned).collect();
        assert_eq!(Board::detect(&strings).name, board, "{compatible}");
    }
}

#[test]
fn no_two_boards_match_the_same_string() {
    let mut seen = BTreeSet::new();
    for (name, _) in EMBEDDED {
        for told in Board::named(name).unwrap().matches {
            assert!(seen.insert(told.clone()), "{told}");
        }
    }
}

#[test]
fn a_hat_is_told_by_its_eeprom() {
    for (product, version, hat) in [
        ("Sense HAT", Some(1), Some("sense-hat")),
        ("Sense HAT", None, Some("sense-hat")),
        ("ZC4:ClusterHAT", Some(0x10), Some("clusterhat-v1")),
        ("ZC4:ClusterHAT", Some(0x25), Some("clusterhat")),
        ("ZC4:ClusterHAT", Some(0x40), None),
        ("ZC4:ClusterHAT", None, None),
        ("Relay HAT", Some(1), None),
        ("", None, None),
    ] {
        assert_eq!(Hat::detect(product, version).map(|hat| hat.name).as_deref(), hat, "{product} {version:?}");
    }
}

#[test]
fn boards_of_64_bits_get_the_program_of_64_bits_and_every_pi_shows_its_node_by_itself() {
    for (name, _) in EMBEDDED.iter().filter(|(name, _)| name.starts_with("rpi-")) {
        let board = Board::named(name).unwrap();
        let narrow = ["rpi-1", "rpi-2b", "rpi-zero", "rpi-zero-w"].contains(name);
        let target = if narrow { "arm-unknown-linux-musleabihf" } else { "aarch64-unknown-linux-musl" };
        assert_eq!(board.target, target, "{name}");
        let Place::Class(led) = &board.leds[0].place else { panic!("{name}: {:?}", board.leds[0]) };
        assert_eq!((board.leds[0].shows, &led.names[..2]), (Shows::Node, &["ACT".to_owned(), "led0".to_owned()][..]), "{name}");
        let died = led.died.as_ref().unwrap();
        assert_eq!(
            (died.trigger.as_str(), died.blink),
            ("timer", Some((Duration::from_millis(100), Duration::from_millis(900))))
        );
        assert!(board.leds.iter().all(|led| matches!(led.place, Place::Class(_))), "{name} drives no pin that nobody named");
    }
}

/// A sound file, to be broken.
const GOOD: &str = r#"name = "b"
title = "B"
instance_type = "b"
match = []
target = "t"
hot_celsius = 80

[reserved]
cpu_milli = 1
memory_mib = 1

[simulated]
cpus = 1
memory_mib = 1
pull_milliseconds = 1

[[led]]
name = "node"
pin = 21
colour = "blue"
shows = "node"

[[led]]
name = "pod-1"
pin = 5
colour = "green"
shows = "pod"

[[led]]
name = "act"
class = ["ACT"]
colour = "green"
shows = "pod"
trigger = "mmc0"
died = { trigger = "timer", on_milliseconds = 100, off_milliseconds = 900 }

[[strip]]
driver = "apa102"
name = "pixel"
data = 23
clock = 24
pixels = 8
"#;

fn broken(changes: &[(&str, &str)]) -> Vec<String> {
    let text = changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let said = Board::parse(&text).unwrap_err().to_string();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_file_needs_no_format_and_no_kind_and_its_leds_come_in_order() {
    let board = Board::parse(GOOD).unwrap();
    assert_eq!(
        board,
        Board::parse(&format!("format = 1\nkind = \"board\"\n{GOOD}"))
            .map(|mut other| {
                other.claims.clone_from(&board.claims);
                other
            })
            .unwrap()
    );
    let told: Vec<&str> = board.leds.iter().map(|led| led.name.as_str()).collect();
    assert_eq!(told[..4], ["node", "pod-1", "act", "pixel-1"]);
    assert_eq!((told.len(), board.leds[10].place.clone()), (11, Place::Pixel { strip: 0, pixel: 7 }));
}

#[test]
fn a_file_that_a_setting_names_needs_no_match_and_those_that_are_embedded_say_theirs() {
    let own = Board::parse(&GOOD.replacen("match = []\n", "", 1)).unwrap();
    assert!(own.matches.is_empty());
    for (name, text) in EMBEDDED {
        assert!(
            text.lines().any(|line| line.starts_with("match = ")),
            "{name}: without it nobody knows whether it was forgotten"
        );
    }
}

#[test]
fn each_fault_names_its_line_and_its_key() {
    for (changes, expected) in [
        (
            ("hot_celsius = 80", "hot_celsius = \"warm\""),
            "line 6: hot_celsius: expected a number of °C from 40 to 120, found the text \"warm\"",
        ),
        (("pin = 5", "pin = 21"), "line 25: LED \"pod-1\": pin: pin 21 is used twice: LED \"node\" has it already (line 19)"),
        (("pin = 5", "pin = 28"), "line 25: LED \"pod-1\": pin: expected a pin of the header, BCM 0 to 27, found the number 28"),
        (("pin = 5", "pin = -1"), "line 25: LED \"pod-1\": pin: expected a pin of the header, BCM 0 to 27, found the number -1"),
        (
            ("colour = \"green\"", "colour = \"mauve\""),
            "line 26: LED \"pod-1\": colour: expected one of red, yellow, green, blue, white, rgb, found the text \"mauve\"",
        ),
        (("colour = \"green\"", "color = \"green\""), "line 23: LED \"pod-1\": colour: missing; expected one of"),
        (("shows = \"pod\"", "shows = \"weather\""), "line 27: LED \"pod-1\": shows: expected \"node\" or \"pod\""),
        (("name = \"pod-1\"", "name = \"node\""), "line 23: two LEDs are named \"node\" (the other in line 17)"),
        (("shows = \"pod\"", "shows = \"node\""), "line 23: more than one LED shows the node (the other in line 17)"),
        (("name = \"pod-1\"\n", ""), "LED number 2: name: missing"),
        (("name = \"pod-1\"", "name = \"pod 1\""), "expected a name of letters, digits, - and _"),
        (("target =", "targett ="), "line 5: targett: unknown key"),
        (("target = \"t\"\n", ""), "line 1: target: missing"),
        (
            ("cpu_milli = 1", "cpu_milli = \"x\""),
            "line 9: reserved.cpu_milli: expected thousandths of a core, 0 to 1024000, found the text \"x\"",
        ),
        (("[simulated]", "[simulatedd]"), "line 1: simulated: missing; expected a table"),
        (("class = [\"ACT\"]", "class = [\"../ACT\"]"), "line 31: LED \"act\": class: expected names"),
        (("class = [\"ACT\"]", "class = [\"ACT\"]\npin = 7"), "an LED is on a pin or of the kernel's class, not both"),
        (("class = [\"ACT\"]", "active_low = true"), "LED \"act\": active_low: only an LED with a pin has it"),
        (("class = [\"ACT\"]\n", ""), "LED \"act\": trigger: only an LED of the kernel's class has it"),
        (("off_milliseconds = 900", "off_milliseconds = 0"), "LED \"act\": died.off_milliseconds: expected milliseconds"),
        (("\"timer\"", "\"heartbeat\""), "LED \"act\": died: on_milliseconds and off_milliseconds belong together"),
        (("apa102", "neopixel"), "strip \"pixel\": driver: expected one of apa102"),
        (
            ("clock = 24", "clock = 23"),
            "line 41: strip \"pixel\": clock: pin 23 is used twice: strip \"pixel\" has it already (line 40)",
        ),
        (
            ("clock = 24", "clock = 5"),
            "line 41: strip \"pixel\": clock: pin 5 is used twice: LED \"pod-1\" has it already (line 25)",
        ),
        (("pixels = 8", "pixels = 300"), "strip \"pixel\": pixels: expected a whole number from 1 to 256, found the number 300"),
        (("pixels = 8", "pixels = 8\nnode = 9"), "strip \"pixel\": node: there is no pixel 9: the strip has 8"),
        (("pixels = 8", "pixels = 8\nnode = 1"), "more than one LED shows the node"),
        (("clock = 24", "clock = 24\nspi = \"0.0\""), "strip \"pixel\": spi: unknown key"),
        (("name = \"pixel\"", "name = \"pod\""), "two LEDs are named \"pod-1\""),
        (
            ("name = \"b\"", "format = 2\nname = \"b\""),
            "line 1: format: this program reads format 1; a newer Bramble may read format 2",
        ),
        (("match = []", "match = []\nheader_pins = [5, 21, 23]"), "strip \"pixel\": clock: this board's header has no pin 24"),
        (
            ("hot_celsius = 80", "hot_celsius = 800.5"),
            "hot_celsius: expected a number of °C from 40 to 120, found the number 800.5",
        ),
        (("instance_type = \"b\"", "instance_type = \"-x-\""), "line 3: instance_type: expected a label's value"),
        (("instance_type = \"b\"", "instance_type = \"...\""), "line 3: instance_type: expected a label's value"),
        (("name = \"b\"", "name = \"b-\""), "line 1: name: expected a name of letters, digits, - and _"),
        (("title = \"B\"", "title = \"\\u001b[2J\""), "line 2: title: expected a text, found the text \"\\u{1b}[2J\""),
        (("match = []", "\"\\u001b[2J\" = 1"), "line 4: \\u{1b}[2J: unknown key"),
        (("match = []", "match = [\u{1b}]"), "\\u{1b}"),
        (("match = []", "gpio_chips = []"), "line 4: gpio_chips: expected a list of labels of GPIO chips"),
        (("cpus = 1", "cpus = 0"), "simulated.cpus: expected a number of cores from 1 to 1024, found the number 0"),
        (
            (
                "driver = \"apa102\"\nname = \"pixel\"\ndata = 23\nclock = 24",
                "driver = \"ws2812\"\nname = \"pixel\"\nspi = \"7.0\"",
            ),
            "strip \"pixel\": spi: expected an SPI device that a Pi has, like \"0.0\" for /dev/spidev0.0, found the text \"7.0\"",
        ),
        (
            (
                "driver = \"apa102\"\nname = \"pixel\"\ndata = 23\nclock = 24",
                "driver = \"ws2812\"\nname = \"first\"\nspi = \"5.0\"\npixels = 1\n[[strip]]\ndriver = \"ws2812\"\nname = \"pixel\"\nspi = \"5.1\"",
            ),
            "line 45: strip \"pixel\": spi: SPI bus 5 is used twice: strip \"first\" has it already (line 40)",
        ),
    ] {
        let told = broken(&[changes]);
        assert!(told.iter().any(|line| line.contains(expected)), "{changes:?}: {expected}\nin {told:#?}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_the_lines() {
    let told = broken(&[
        ("hot_celsius = 80", "hot_celsius = \"warm\""),
        ("\"blue\"", "'mauve'"),
        ("target =", "targett ="),
        ("pin = 5", "pin = 21"),
        ("clock = 24", "clock = 400"),
    ]);
    let begin = [
        "line 1: target",
        "line 5: targett",
        "line 6: hot_",
        "line 20: LED \"node\": colour",
        "line 25: LED \"pod-1\": pin",
        "line 41: strip \"pixel\": clock",
    ];
    assert_eq!(told.len(), begin.len(), "{told:#?}");
    for (line, begin) in told.iter().zip(begin) {
        assert!(line.starts_with(begin), "{line} does not start with {begin}");
    }
    assert!(Board::parse("name = [").unwrap_err().to_string().contains("line 1"));
    assert!(Board::parse("name = 3").is_err() && Board::parse("").is_err());
    let long = format!("{GOOD}# {}", "x".repeat(64 << 10));
    assert!(Board::parse(&long).unwrap_err().to_string().contains("at most 65536 bytes"));
}

#[test]
fn versions_that_match_nothing_are_refused_in_their_line() {
    for versions in ["[9, 3]", "[9]", "[]", "[1, 2, 3]"] {
        let told = Hat::parse(&format!("kind = 'hat'\nname = 'x'\ntitle = 'x'\nproduct_versions = {versions}\n")).unwrap_err();
        let told = told.to_string();
        assert!(told.starts_with("line 4: product_versions: expected the lowest and the highest version"), "{versions}: {told}");
    }
}

fn hat(name: &str, body: &str) -> Hat {
    Hat::parse(&format!("kind = \"hat\"\nname = \"{name}\"\ntitle = \"t\"\n{body}")).unwrap()
}

fn leds(board: &Board) -> Vec<String> {
    board.leds.iter().map(|led| format!("{} {:?}", led.name, led.shows)).collect()
}

#[test]
fn what_a_hat_shows_the_boards_own_leds_need_not() {
    let pi = || Board::named("rpi-4b").unwrap();
    assert_eq!(leds(&pi()), ["node Node", "power Pod"]);
    // One with LEDs for both: the kernel keeps the board's own.
    let both = pi().with_hats(&[Hat::named("plain").unwrap()]).unwrap();
    assert_eq!(leds(&both)[..2], ["node Node", "pod-1 Pod"]);
    assert_eq!((both.leds.len(), both.hats.join(" "), both.resting.len()), (8, "plain".to_owned(), 2));
    // One for pods only: the board shows the node.
    let pods = pi().with_hats(&[Hat::named("clusterhat").unwrap()]).unwrap();
    assert_eq!((leds(&pods), pods.resting[0].name.as_str()), (vec!["node Node".to_owned(), "alert Pod".to_owned()], "power"));
}

#[test]
fn several_hats_have_one_list_of_leds_with_one_node_and_no_name_twice() {
    let board = Board::named("rpi-4b").unwrap();
    let hats = ["led-shim", "blinkt", "ws2812"].map(|name| Hat::named(name).unwrap());
    let board = board.with_hats(&hats).unwrap();
    let told = leds(&board);
    assert_eq!(told.len(), 28 + 8 + 8);
    assert_eq!((told[0].as_str(), told[28].as_str(), told[29].as_str()), ("node Node", "blinkt-node Pod", "blinkt-pod-1 Pod"));
    assert_eq!(told.iter().filter(|led| led.ends_with("Node")).count(), 1);
    assert_eq!(board.leds[28].place, Place::Pixel { strip: 1, pixel: 0 });
    assert_eq!(board.leds[43].place, Place::Pixel { strip: 2, pixel: 7 });
    let names: BTreeSet<&str> = board.leds.iter().map(|led| led.name.as_str()).collect();
    assert_eq!(names.len(), board.leds.len());
    assert_eq!(board.strips.len(), 3);
}

#[test]
fn nothing_is_taken_twice_between_a_board_and_its_hats() {
    let refused = |board: Board, hats: &[Hat]| board.with_hats(hats).unwrap_err().to_string();
    let pi = || Board::named("rpi-4b").unwrap();
    let plain = Hat::named("plain").unwrap();
    // The LEDs of `plain` would switch the Zeros of a Cluster HAT v1.
    let told = refused(pi(), &[plain.clone(), Hat::named("clusterhat-v1").unwrap()]);
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(
        told.contains(
            "HAT \"clusterhat-v1\", line 9: occupies: pin 6 is used twice: LED \"pod-2\" has it already (HAT \"plain\", line 22)"
        ),
        "{told}"
    );
    let told = refused(pi(), &[Hat::named("blinkt").unwrap(), hat("relay", "occupies = [24]")]);
    assert!(told.contains("pin 24 is used twice: strip \"pod\" has it already (HAT \"blinkt\""), "{told}");
    let told = refused(Board::parse(GOOD).unwrap(), std::slice::from_ref(&plain));
    assert!(
        told.contains(
            "HAT \"plain\", line 10: LED \"node\": pin: pin 21 is used twice: LED \"node\" has it already (board \"b\", line 19)"
        ),
        "{told}"
    );
    // A WS2812 has the bus for itself, whatever the chip select.
    let ws2812 = |spi: &str| format!("[[strip]]\nname = \"w\"\ndriver = \"ws2812\"\npixels = 8\nspi = \"{spi}\"\n");
    let told = refused(pi(), &[hat("one", &ws2812("0.0")), hat("two", &ws2812("0.1"))]);
    assert!(
        told.contains("HAT \"two\", line 8: strip \"w\": spi: SPI bus 0 is used twice: strip \"w\" has it already (HAT \"one\"")
            && told.contains("so it has the bus for itself")
            && told.lines().count() == 1,
        "{told}"
    );
    assert!(pi().with_hats(&[hat("one", &ws2812("0.0")), hat("two", &ws2812("1.0"))]).is_ok());
    // Which pins a bus has, and whether it is there, the board tells.
    let on_pin = |pin: u8| hat("led", &format!("[[led]]\nname = \"x\"\ncolour = \"red\"\nshows = \"pod\"\npin = {pin}\n"));
    for (spi, board, pin, words) in [
        ("0.0", "rpi-4b", 7, "pin 7 is used twice"),
        ("1.0", "rpi-zero", 17, ""),
        ("1.1", "rpi-zero", 17, "pin 17 is used twice"),
        ("3.0", "rpi-4b", 2, "pin 2 is used twice"),
        ("3.0", "rpi-5", 2, ""),
        ("3.1", "rpi-5", 25, "pin 25 is used twice"),
        ("6.1", "rpi-cm4", 27, "pin 27 is used twice"),
        ("3.0", "rpi-3b", 2, "spi: this board has no spidev3.0 (its GPIO chip is pinctrl-bcm2835)"),
        ("6.0", "rpi-5", 20, "spi: this board has no spidev6.0 (its GPIO chip is pinctrl-rp1)"),
        ("5.0", "generic", 13, "pin 13 is used twice"),
    ] {
        let told = Board::named(board).unwrap().with_hats(&[hat("w", &ws2812(spi)), on_pin(pin)]);
        let told = told.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(
            told.contains(words) && told.lines().count() == usize::from(!words.is_empty()),
            "{spi} and pin {pin} on {board}: {told}"
        );
    }
    // So with I2C, whose chips share a bus.
    let chip = |bus: u8| format!("[[strip]]\nname = \"c\"\ndriver = \"pca9554\"\ncolour = \"red\"\nbits = [0]\ni2c = {bus}\n");
    for (bus, board, pin, words) in [
        (1, "rpi-zero", 3, "pin 3 is used twice: strip \"c\" has it already (HAT \"c\", line 9)"),
        (3, "rpi-4b", 4, "pin 4 is used twice"),
        (3, "rpi-4b", 6, ""),
        (3, "rpi-5", 6, "pin 6 is used twice"),
        // Not the chip's own: made by the kernel of whichever pins.
        (3, "rpi-3b", 4, ""),
        (6, "rpi-5", 23, ""),
        (6, "rpi-cm4", 23, "pin 23 is used twice"),
    ] {
        let told = Board::named(board).unwrap().with_hats(&[hat("c", &chip(bus)), on_pin(pin)]);
        let told = told.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(
            told.contains(words) && told.lines().count() == usize::from(!words.is_empty()),
            "i2c-{bus} and pin {pin} on {board}: {told}"
        );
    }
    // Two chips share a bus, but not an address; and nothing else may be on the bus' pins.
    let strip = |address: &str| {
        format!("[[strip]]\nname = \"x\"\ndriver = \"pca9554\"\ncolour = \"red\"\nbits = [0]\naddress = {address}\n")
    };
    assert!(pi().with_hats(&[hat("one", &strip("0x20")), hat("two", &strip("0x21"))]).is_ok());
    assert!(
        refused(pi(), &[hat("one", &strip("0x20")), hat("two", &strip("32"))]).contains("address 0x20 on i2c-1 is used twice")
    );
    let led = "[[led]]\nname = \"x\"\ncolour = \"red\"\nshows = \"pod\"\npin = 3\n";
    assert!(refused(pi(), &[hat("one", &strip("0x20")), hat("two", led)]).contains("pin 3 is used twice"));
    let act = "[[led]]\nname = \"x\"\ncolour = \"red\"\nshows = \"pod\"\nclass = [\"led1\"]\n";
    assert!(refused(pi(), &[hat("act", act)]).contains("the LED \"led1\" of the kernel's class is used twice"));
    assert!(refused(pi(), &[hat("one", ""), hat("one", "")]).contains("it is there twice"));
    let small = Board::parse(&GOOD.replacen("match = []", "match = []\nheader_pins = [5, 21, 23, 24]", 1)).unwrap();
    assert!(
        refused(small, &[hat("x", &led.replace("= 3", "= 7"))])
            .contains("HAT \"x\", line 8: LED \"x\": pin: this board's header has no pin 7")
    );
}

#[test]
fn no_text_at_all_makes_the_parser_panic() {
    // Every prefix of every file, and every file with each of its lines taken out.
    for (_, text) in EMBEDDED.iter().chain(EMBEDDED_HATS) {
        for (end, _) in text.char_indices().step_by(7) {
            let _ = File::parse(&text[..end]);
        }
        for line in text.lines().filter(|line| !line.is_empty()) {
            let _ = File::parse(&text.replacen(line, "", 1));
            let _ = File::parse(&text.replacen(line, "x = []", 1));
        }
    }
}

/// The schema's verdict on a TOML text.
struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    fn read() -> Self {
        let text = include_str!("../../docs/board.schema.json");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("board.json", serde_json::from_str(text).unwrap()).unwrap();
        let index = compiler.compile("board.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn takes(&self, text: &str) -> Result<(), String> {
        let table: toml::Table = toml::from_str(text).unwrap();
        let value = serde_json::to_value(table).unwrap();
        self.schemas.validate(&value, self.index).map_err(|error| error.to_string())
    }
}

#[test]
fn the_schema_takes_every_file_that_comes_with_the_program() {
    let schema = Schema::read();
    for (name, text) in EMBEDDED.iter().chain(EMBEDDED_HATS).chain([&("good", GOOD)]) {
        schema.takes(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn what_the_schema_refuses_the_parser_refuses_and_the_other_way_round() {
    let schema = Schema::read();
    let hat = EMBEDDED_HATS.iter().find(|(name, _)| *name == "plain").unwrap().1;
    let shim = EMBEDDED_HATS.iter().find(|(name, _)| *name == "led-shim").unwrap().1;
    let ws2812 = EMBEDDED_HATS.iter().find(|(name, _)| *name == "ws2812").unwrap().1;
    let cluster = EMBEDDED_HATS.iter().find(|(name, _)| *name == "clusterhat").unwrap().1;
    for (text, from, to) in [
        (GOOD, "hot_celsius = 80", "hot_celsius = 'warm'"),
        (GOOD, "hot_celsius = 80\n", ""),
        (GOOD, "hot_celsius = 80", "hot_celsius = 39.9"),
        (GOOD, "hot_celsius = 80", "hot_celsius = 0"),
        (GOOD, "hot_celsius = 80", "hot_celsius = 121"),
        (GOOD, "hot_celsius = 80", "hot_celsius = -80"),
        (GOOD, "cpus = 1", "cpus = 0"),
        (GOOD, "cpus = 1", "cpus = 1025"),
        (GOOD, "cpu_milli = 1", "cpu_milli = 1024001"),
        (GOOD, "memory_mib = 1\n\n[sim", "memory_mib = 16777217\n\n[sim"),
        (GOOD, "memory_mib = 1\npull", "memory_mib = 0\npull"),
        (GOOD, "memory_mib = 1\npull", "memory_mib = 16777217\npull"),
        (GOOD, "pull_milliseconds = 1", "pull_milliseconds = 3600001"),
        (GOOD, "name = \"b\"", "name = \"\""),
        (GOOD, "name = \"b\"", "name = \"a b\""),
        (GOOD, "name = \"b\"", "name = 3"),
        (GOOD, "name = \"b\"", "format = 2\nname = \"b\""),
        (GOOD, "name = \"b\"", "kind = \"cat\"\nname = \"b\""),
        (GOOD, "instance_type = \"b\"", "instance_type = \"a/b\""),
        (GOOD, "instance_type = \"b\"", "instance_type = \"-x-\""),
        (GOOD, "instance_type = \"b\"", "instance_type = \"...\""),
        (GOOD, "name = \"b\"", "name = \"_b\""),
        (GOOD, "name = \"pod-1\"", "name = \"pod-\""),
        (GOOD, "title = \"B\"", "title = \"\\u001b[2J\""),
        (GOOD, "title = \"B\"", "title = \"B\\u0085\""),
        (GOOD, "match = []", "match = []\ngpio_chips = []"),
        (GOOD, "match = []", "match = [3]"),
        (GOOD, "match = []", "match = 'x'"),
        (GOOD, "match = []", "match = []\nheader_pins = [28]"),
        (GOOD, "match = []", "match = []\ncolor = 1"),
        (GOOD, "match = []", "match = []\nproducts = ['x']"),
        (GOOD, "cpu_milli = 1", "cpu_milli = -1"),
        (GOOD, "cpu_milli = 1", "cpu_milli = 1.5"),
        (GOOD, "cpu_milli = 1", ""),
        (GOOD, "[simulated]", "[simulatedd]"),
        (GOOD, "pin = 21", "pin = 28"),
        (GOOD, "pin = 21", "pin = '21'"),
        (GOOD, "colour = \"blue\"", "colour = \"mauve\""),
        (GOOD, "shows = \"node\"", "shows = \"weather\""),
        (GOOD, "shows = \"node\"\n", ""),
        (GOOD, "class = [\"ACT\"]", "class = []"),
        (GOOD, "class = [\"ACT\"]", "class = [\"../x\"]"),
        (GOOD, "class = [\"ACT\"]", "class = [\".x\"]"),
        (GOOD, "class = [\"ACT\"]", "class = [\"a b\"]"),
        (GOOD, "class = [\"ACT\"]", "class = \"ACT\""),
        (GOOD, "class = [\"ACT\"]", "class = [\"ACT\"]\npin = 4"),
        (GOOD, "class = [\"ACT\"]\n", ""),
        (GOOD, "class = [\"ACT\"]", "class = [\"ACT\"]\nactive_low = true"),
        (GOOD, "on_milliseconds = 100, ", ""),
        (GOOD, "on_milliseconds = 100", "on_milliseconds = 0"),
        (GOOD, "trigger = \"timer\", ", ""),
        (GOOD, "trigger = \"timer\"", "trigger = \"heartbeat\""),
        (GOOD, "driver = \"apa102\"", "driver = \"neon\""),
        (GOOD, "driver = \"apa102\"\n", ""),
        (GOOD, "pixels = 8", "pixels = 0"),
        (GOOD, "pixels = 8", "pixels = 8\nbrightness = 256"),
        (GOOD, "pixels = 8", "pixels = 8\nbrightness = 0"),
        (GOOD, "pixels = 8", "pixels = 8\nspi = \"0.0\""),
        (GOOD, "clock = 24\n", ""),
        (GOOD, "clock = 24", "clock = 99"),
        (hat, "kind = \"hat\"\n", ""),
        (hat, "title = \"Eight plain LEDs\"", "title = \"\""),
        (hat, "title = \"Eight plain LEDs\"", "title = \"x\"\noccupies = [30]"),
        (hat, "title = \"Eight plain LEDs\"", "title = \"x\"\nproduct_versions = [1]"),
        (hat, "title = \"Eight plain LEDs\"", "title = \"x\"\nproduct_versions = []"),
        (hat, "title = \"Eight plain LEDs\"", "title = \"x\"\nproduct_versions = [1, 70000]"),
        (hat, "title = \"Eight plain LEDs\"", "title = \"x\"\ntarget = \"x\""),
        (shim, "[118, 69, 85]", "[118, 69]"),
        (shim, "[118, 69, 85]", "[118, 69, 144]"),
        (shim, "[118, 69, 85]", "[118, 69, 69]"),
        (shim, "[117, 68, 101]", "[118, 69, 85]"),
        (shim, "address = 0x75", "address = 0x78"),
        (shim, "i2c = 1", "i2c = 'one'"),
        (shim, "i2c = 1", "i2c = 200"),
        (shim, "i2c = 1", "i2c = 32"),
        (ws2812, "spi = \"0.0\"", "spi = \"0\""),
        (ws2812, "spi = \"0.0\"", "spi = \"10.0\""),
        (ws2812, "spi = \"0.0\"", "spi = \"7.0\""),
        (ws2812, "spi = \"0.0\"", "spi = \"0.2\""),
        (ws2812, "spi = \"0.0\"", "spi = \"1.3\""),
        (ws2812, "spi = \"0.0\"", "spi = \"4.2\""),
        (ws2812, "order = \"grb\"", "order = \"gbr\""),
        (ws2812, "pixels = 8", "pixels = 257"),
        (cluster, "bits = [6]", "bits = []"),
        (cluster, "bits = [6]", "bits = [8]"),
        (cluster, "bits = [6]", "bits = [6, 6]"),
        (cluster, "colour = \"red\"\n", ""),
    ] {
        assert!(text.contains(from), "{from}");
        let text = text.replacen(from, to, 1);
        assert!(File::parse(&text).is_err(), "the parser takes {to:?} for {from:?}");
        assert!(schema.takes(&text).is_err(), "the schema takes {to:?} for {from:?}");
    }
    // What goes beyond the form of one value is the parser's alone.
    for (text, from, to) in [
        (GOOD, "pin = 5", "pin = 21"),
        (GOOD, "\"pod-1\"", "\"node\""),
        (GOOD, "clock = 24", "clock = 5"),
        (GOOD, "pixels = 8", "pixels = 8\nnode = 9"),
        (shim, "[117, 68, 101]", "[117, 68, 85]"),
        (hat, "title = \"Eight plain LEDs\"", "title = \"x\"\nproduct_versions = [9, 3]"),
        (ws2812, "[[strip]]", "[[strip]]\ndriver = \"ws2812\"\nname = \"x\"\nspi = \"0.1\"\npixels = 1\n[[strip]]"),
    ] {
        assert!(text.contains(from), "{from}");
        let text = text.replacen(from, to, 1);
        assert!(schema.takes(&text).is_ok() && File::parse(&text).is_err(), "{to}");
    }
}
