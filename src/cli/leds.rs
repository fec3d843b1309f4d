//! `bramble leds show | test | check | died`: the LEDs of a node, in the terminal, on the board, and as a file.
//!
//! `show` reads what nodes tell of their LEDs (`<base>/nodes/+/up/leds`) from the loopback listener for viewers, and draws the
//! patterns itself: a steady LED costs no message.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent::config::{self, AgentConfig};
use crate::agent::health::sysinfo::Sensors;
use crate::agent::led::gpio::{self, Claim};
use crate::agent::led::pattern::Pattern;
use crate::agent::led::shelf::Picture;
use crate::agent::led::{Driver, DriverError, Light, disk};
use crate::board::{Board, Colour, EMBEDDED, EMBEDDED_HATS, File, Hat, Led, Place};
use crate::clock::{Clock, SystemClock, Tick};
use crate::config::FileMay;
use crate::error::Report;
use crate::link::bus::BusEvent;
use crate::link::codec::decode;
use crate::link::mqtt::{self, MqttConfig};
use crate::link::{NodeTopic, Topics};

/// A frame at most this often (DESIGN §11: 20 Hz).
const FRAME: Duration = Duration::from_millis(50);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Draws the LEDs of all nodes, or of one, live; Ctrl-C ends it
    Show {
        /// Only this node
        node: Option<String>,
        /// The broker's listener for viewers, host:port [default: the local cluster's]
        #[arg(long, value_name = "HOST:PORT")]
        mqtt: Option<String>,
        /// The cluster's name
        #[arg(long, default_value = "bramble")]
        cluster: String,
        /// Ends after so many seconds
        #[arg(long, value_name = "SECONDS")]
        seconds: Option<u64>,
        /// Where the local cluster keeps its data
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Lights the LEDs of this machine's board and HATs one by one
    Test {
        /// A board's name or file [default: what this machine is]
        #[arg(long)]
        board: Option<String>,
        /// A HAT's name or file; may be given several times [default: what its EEPROM tells]
        #[arg(long, value_name = "HAT")]
        hat: Vec<String>,
    },
    /// Checks board and HAT files, and whether they go together: 0 good, 2 not
    Check {
        /// Names or files: any number of HATs, and at most one board to put them on [default: what this machine is]
        #[arg(required = true, value_name = "NAME|FILE")]
        files: Vec<PathBuf>,
    },
    /// Shows by the LEDs that the agent died; for ExecStopPost= of its unit, which says how it ended in $SERVICE_RESULT
    Died {
        /// The agent's configuration
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
        config: PathBuf,
    },
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    match args.command {
        Command::Show { node, mqtt, cluster, seconds, data_dir } => {
            let (host, port) = viewer(mqtt.as_deref(), data_dir.as_deref())?;
            runtime()?.block_on(show(host, port, &Topics::new(&cluster), node.as_deref(), seconds.map(Duration::from_secs)))
        }
        Command::Test { board, hat } => test(board.as_deref(), &hat),
        Command::Check { files } => check(&files),
        Command::Died { config } => {
            let clean = std::env::var("SERVICE_RESULT").is_ok_and(|result| result == "success");
            if !clean {
                died(&config);
            }
            Ok(())
        }
    }
}

fn check(files: &[PathBuf]) -> Result<(), Report> {
    let (mut boards, mut hats, mut faulty) = (Vec::new(), Vec::new(), None);
    let mut lines = String::new();
    for file in files {
        let mut line = |kind: &str, name: &str, title: &str, leds: usize| {
            lines.push_str(&format!("{} is a {kind} file: {title} ({name}), {leds} LEDs\n", file.display()));
        };
        match read_file(file) {
            Ok(File::Board(board)) => {
                line("board", &board.name, &board.title, board.leds.len());
                boards.push(*board);
            }
            Ok(File::Hat(hat)) => {
                line("HAT", &hat.name, &hat.title, hat.leds.len());
                hats.push(hat);
            }
            Err(report) if files.len() == 1 => return Err(report),
            // All files are looked at.
            Err(report) => {
                if let Some(earlier) = faulty.replace(report) {
                    super::print(&super::told(&earlier));
                }
            }
        }
    }
    if let Some(report) = faulty {
        return Err(report);
    }
    super::print(&lines);
    if boards.len() > 1 {
        return Err(Report::usage("more than one of these is a board").fix("give one board, and the HATs that are on it"));
    }
    if hats.is_empty() {
        return Ok(());
    }
    let they = if hats.len() + boards.len() > 1 { "they go together" } else { "it goes" };
    // Which board this machine is, if it is one.
    let own = || Some(disk::board(None, Path::new("/")).ok()?).filter(|board| *board != Board::detect(&[]));
    super::print(&match boards.pop().or_else(own) {
        Some(board) => format!("{they} on board {}\n", disk::together(board, &hats)?.name),
        None => format!("{they} on {}\n", boards_for(&hats)?),
    });
    Ok(())
}

/// In words: on which of the boards that come with the program these HATs go together.
fn boards_for(hats: &[Hat]) -> Result<String, Report> {
    const NOWHERE: &str = "these HATs do not go together on any board that comes with Bramble";
    let boards = EMBEDDED.iter().filter_map(|(name, _)| Board::named(name));
    let (good, bad): (Vec<Board>, Vec<Board>) = boards.partition(|board| board.clone().with_hats(hats).is_ok());
    let names = |boards: &[Board]| boards.iter().map(|board| board.name.clone()).collect::<Vec<_>>().join(", ");
    match bad.as_slice() {
        [] => Ok("every board that comes with Bramble".to_owned()),
        _ if !good.is_empty() => Ok(format!("{}; not on {}: name the board to see why", names(&good), names(&bad))),
        [first, ..] => Err(match disk::together(first.clone(), hats) {
            Err(report) => Report { what: NOWHERE.to_owned(), ..report },
            Ok(_) => Report::usage(NOWHERE),
        }),
    }
}

/// What comes with the program under this name, else what the file says.
fn read_file(file: &Path) -> Result<File, Report> {
    if let Some(known) = file.to_str().and_then(File::named) {
        return Ok(known);
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        Report::usage(format!("cannot read {}", file.display())).because(error).fix(format!(
            "give the path of a board file or a HAT's, or a name: {}, {}",
            disk::known(EMBEDDED),
            disk::known(EMBEDDED_HATS)
        ))
    })?;
    File::parse(&text).map_err(|error| {
        Report::usage(format!("{} is no board file, and no HAT's", file.display()))
            .because(error)
            .fix("docs/boards.md explains the format; `boards/rpi-4b.toml` and `boards/hats/plain.toml` in Bramble's source are ones to copy from")
    })
}

/// How long each LED burns.
const EACH: Duration = Duration::from_millis(700);

fn test(board: Option<&str>, hats: &[String]) -> Result<(), Report> {
    let root = Path::new("/");
    // A board that was named may be another than this machine: its HATs are named as well, then.
    let hats =
        if hats.is_empty() && board.is_some() { Vec::new() } else { disk::hats((!hats.is_empty()).then_some(hats), root)? };
    let board = disk::together(disk::board(board, root)?, &hats)?;
    if board.leds.is_empty() {
        return Err(Report::failed(format!("there are no LEDs to light: board {} has none", board.name))
            .fix("run it on a board with LEDs; `--board NAME|FILE` says which board it is, `--hat NAME|FILE` what is on it"));
    }
    if board.leds.iter().all(|led| led.place == Place::Message) {
        return Err(Report::failed(format!("board {} has LEDs in messages only, and no pins to light", board.name))
            .fix("see them with `bramble leds show`"));
    }
    let claim = claim_of(Claim::take_patiently())?;
    runtime()?.block_on(async {
        // From before the first LED is taken: whatever ends this, the LEDs go dark and the kernel's are given back.
        let mut end = End::listen().map_err(|error| Report::failed("cannot listen for signals").because(error))?;
        let (driver, _) = gpio::driver(&board, Some(claim));
        one_by_one(driver, &board.leds, EACH, end.heard()).await
    })
}

/// Lights one LED after the other, `each` for so long, until all have burnt or `end` comes; dark after that, in any case.
async fn one_by_one(
    mut driver: Box<dyn Driver>,
    leds: &[Led],
    each: Duration,
    end: impl Future<Output = ()>,
) -> Result<(), Report> {
    if !driver.works() {
        let words = driver.fault().map_or(String::new(), |fault| fault.words);
        driver.leave().wait();
        return Err(Report::failed(format!("there are no LEDs to light: {words}"))
            .fix("run it on a board with LEDs, as root or as a user of the groups gpio, i2c and spi; `--board NAME|FILE` says which board it is"));
    }
    tokio::pin!(end);
    let mut ended = None;
    for (index, led) in leds.iter().enumerate() {
        super::print(&format!("{} ({})\n", led.name, place(&led.place)));
        let frame: Vec<Light> =
            (0..leds.len()).map(|other| if other == index { Light::white(255) } else { Light::DARK }).collect();
        // What cannot be lit is told at the end: the others are to be seen.
        let _ = driver.show(&frame);
        tokio::select! {
            () = &mut end => {
                ended = Some(index + 1);
                break;
            }
            () = tokio::time::sleep(each) => {}
        }
    }
    let fault = driver.fault();
    driver.leave().wait();
    match (ended, fault) {
        (Some(count), _) => Err(Report::failed(format!("the test was ended at LED {count} of {}", leds.len()))
            .fix("what burnt is dark, and the kernel's LEDs are its own again; run it anew to see the others")),
        (None, Some(fault)) => Err(unlit(fault)),
        (None, None) => Ok(()),
    }
}

/// What ends a command from outside: Ctrl-C, `kill`, a terminal that is closed.
struct End([Signal; 3]);

impl End {
    fn listen() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn heard(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn runtime() -> Result<Runtime, Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Report::failed("cannot start").because(error))
}

/// The claim on this machine's LEDs, or who has it.
fn claim_of(taken: std::io::Result<Option<Claim>>) -> Result<Claim, Report> {
    let failed = || Report::failed("the LEDs cannot be tested now");
    match taken {
        Ok(Some(claim)) => Ok(claim),
        Ok(None) => Err(failed().because("a Bramble agent, or another `bramble leds test`, drives them").fix(
            "see what they show with `bramble leds show`, or let the board blink with `bramble identify NODE`; to light them one by one, \
             stop the agent first: `sudo systemctl stop bramble-agent`",
        )),
        Err(error) => Err(failed().because(error).fix("this machine is short of memory or of open files")),
    }
}

/// Never fails: the agent has failed already, and its unit is to start it again.
fn died(file: &Path) {
    let root = Path::new("/");
    let read = AgentConfig::load(Some((file, FileMay::BeMissing)), std::env::vars(), &[]).ok();
    // A configuration that is wrong may be why it died; the board's own LED can tell all the same.
    let by_itself = || Board::detect(&Sensors::new(root, root).machine().compatible);
    if read.as_ref().is_some_and(|config| !config.leds_enabled) {
        return;
    }
    let board = read.map_or_else(by_itself, |config| disk::of_node_or_bare(&config, root).0);
    for words in gpio::died(&board) {
        super::print(&format!("{words}\n"));
    }
}

/// Where an LED is, for a person.
fn place(place: &Place) -> String {
    match place {
        Place::Message => "in messages only".to_owned(),
        Place::Pin { pin, .. } => format!("BCM {pin}"),
        Place::Class(led) => format!("the kernel's {}", led.names.join(" or ")),
        Place::Pixel { pixel, .. } => format!("pixel {}", pixel + 1),
    }
}

fn unlit(error: DriverError) -> Report {
    Report::failed("an LED could not be lit").because(error)
}

async fn show(host: String, port: u16, topics: &Topics, only: Option<&str>, most: Option<Duration>) -> Result<(), Report> {
    let stop = CancellationToken::new();
    let node = only.unwrap_or("+");
    let filters = [NodeTopic::Leds, NodeTopic::Availability]
        .iter()
        .map(|topic| format!("{}/nodes/{node}/{topic}", topics.base()))
        .collect();
    let config = MqttConfig {
        client_id: format!("bramble-leds-{}", std::process::id()),
        at: mqtt::Place { host: host.clone(), port },
        moves: None,
        tls: None,
        login: None,
        filters,
        will: None,
    };
    let (_bus, mut events, link) = mqtt::connect(config, stop.clone());
    tokio::pin!(link);
    let clock = SystemClock::start();
    let started = clock.now().tick;
    let mut shelves: BTreeMap<String, Drawn> = BTreeMap::new();
    let mut screen = Screen::default();
    let mut frames = tokio::time::interval(FRAME);
    let mut broker = Broker::NotYet;
    loop {
        let now = clock.now().tick;
        tokio::select! {
            () = &mut link => return Err(Report::failed("the connection to the broker ended")),
            _ = tokio::signal::ctrl_c() => return Ok(()),
            Some(event) = events.recv() => match event {
                BusEvent::Connected => broker = Broker::Answers,
                BusEvent::Message { topic, payload, .. } => {
                    if let Some((node, topic)) = topics.parse(&topic) {
                        take(&mut shelves, node, &topic, &payload, now);
                    }
                }
                BusEvent::Disconnected => {
                    if broker == Broker::Answers {
                        broker = Broker::Gone;
                    }
                    // With the broker every node lost its link. Who has it again says so: `availability` is retained.
                    shelves.values_mut().for_each(|drawn| drawn.online = false);
                }
                BusEvent::Alive { .. } => {}
            },
            _ = frames.tick() => {
                if most.is_some_and(|most| now.since(started) >= most) {
                    return Ok(());
                }
                if broker == Broker::NotYet && now.since(started) > Duration::from_secs(5) {
                    return Err(Report::failed(format!("no broker answers at {host}:{port}")).fix("`bramble start` brings up a cluster; `bramble status` says where it is"));
                }
                screen.draw(&picture(&shelves, now, broker, only));
            }
        }
    }
}

/// How it stands with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broker {
    NotYet,
    Answers,
    Gone,
}

/// A node's LEDs, and since when each shows its pattern.
struct Drawn {
    picture: Option<Picture>,
    online: bool,
    since: BTreeMap<String, (Pattern, Tick)>,
}

fn take(shelves: &mut BTreeMap<String, Drawn>, node: &str, topic: &NodeTopic, payload: &[u8], now: Tick) {
    let drawn = shelves.entry(node.to_owned()).or_insert_with(|| Drawn { picture: None, online: false, since: BTreeMap::new() });
    match topic {
        NodeTopic::Availability => drawn.online = payload == b"online",
        NodeTopic::Leds => {
            let Ok(picture) = decode::<Picture>(payload) else { return };
            for led in &picture.leds {
                let slot = drawn.since.entry(led.name.clone()).or_insert((led.pattern, now));
                if slot.0 != led.pattern {
                    *slot = (led.pattern, now);
                }
            }
            drawn.picture = Some(picture);
        }
        _ => {}
    }
}

/// What stands in the terminal.
#[derive(Default)]
struct Screen {
    last: String,
    lines: usize,
}

impl Screen {
    fn draw(&mut self, text: &str) {
        let terminal = std::io::stdout().is_terminal();
        if text == self.last {
            return;
        }
        let mut out = std::io::stdout().lock();
        // On a terminal each frame stands where the last one stood. A terminal that is gone ends us by the next signal.
        let up = if terminal && self.lines > 0 { format!("\x1b[{}A\x1b[J", self.lines) } else { String::new() };
        let _ = write!(out, "{up}{text}").and_then(|()| out.flush());
        self.lines = text.lines().count();
        self.last = text.to_owned();
    }
}

/// One frame: a line a node.
fn picture(shelves: &BTreeMap<String, Drawn>, now: Tick, broker: Broker, only: Option<&str>) -> String {
    let terminal = std::io::stdout().is_terminal();
    let mut text: String = if shelves.values().any(|drawn| drawn.picture.is_some()) {
        shelves.iter().map(|(node, drawn)| line(node, drawn, now, terminal)).collect()
    } else if broker == Broker::NotYet {
        return String::new();
    } else {
        format!("{} told of its LEDs yet\n", only.map_or("no node has".to_owned(), |node| format!("{node} has not")))
    };
    if broker == Broker::Gone {
        text.push_str("! the broker does not answer any more: pods are shown as they were; `bramble status` tells more\n");
    }
    text
}

/// One node: each LED as a dot, lit or dark, with what it shows in words.
fn line(node: &str, drawn: &Drawn, now: Tick, terminal: bool) -> String {
    let Some(picture) = &drawn.picture else { return format!("{node:<16} no LEDs\n") };
    let mut dots = String::new();
    let mut words = Vec::new();
    for led in &picture.leds {
        // A node that is gone cannot tell: its own LED shows what it shows by itself.
        let pattern = if drawn.online || led.shows != "node" { led.pattern } else { Pattern::LongShort };
        let since = drawn.since.get(&led.name).map_or(now, |(_, since)| *since);
        let lit = pattern.at(now.since(since)).0;
        dots.push_str(&dot(lit, led.colour, led.rgb, terminal));
        if !led.shows.is_empty() {
            let others = if led.pods.len() > 1 { format!("+{}", led.pods.len() - 1) } else { String::new() };
            words.push(format!("{}={}{others} ({})", led.name, led.shows, name(pattern)));
        }
    }
    if let Some(page) = picture.page {
        words.push(format!("page {} of {}", page.number, page.of));
    }
    if picture.night {
        words.push("night: the LEDs themselves are dark or dimmed".to_owned());
    }
    format!("{node:<16} {dots}  {}\n", words.join(" "))
}

/// One LED; `rgb` is what one of any colour burns in.
fn dot(lit: bool, colour: Colour, rgb: Option<[u8; 3]>, terminal: bool) -> String {
    let shape = if lit { "●" } else { "○" };
    if !terminal {
        return shape.to_owned();
    }
    if let Some([red, green, blue]) = rgb {
        return format!("\x1b[{}38;2;{red};{green};{blue}m{shape}\x1b[0m", if lit { "1;" } else { "2;" });
    }
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Blue => 34,
        Colour::White | Colour::Rgb => 37,
    };
    format!("\x1b[{}{code}m{shape}\x1b[0m", if lit { "1;" } else { "2;" })
}

fn name(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Off => "dark",
        Pattern::Solid => "solid",
        Pattern::SlowBlink => "slow blink",
        Pattern::DoubleBlink => "double blink",
        Pattern::FastBlink => "fast blink",
        Pattern::LongShort => "long-short",
        Pattern::Identify => "identify",
    }
}

/// The broker's listener for viewers.
fn viewer(given: Option<&str>, data_dir: Option<&Path>) -> Result<(String, u16), Report> {
    let address = match given {
        Some(given) => given.to_owned(),
        None => super::local_viewer(data_dir)?,
    };
    address
        .trim_start_matches("mqtt://")
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| Report::usage(format!("{address:?} is no HOST:PORT")).fix("give something like 127.0.0.1:1883"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::agent::led::Leaving;
    use crate::agent::led::shelf::{LedPicture, PageNumber};

    #[test]
    fn a_frame_says_when_nobody_told_yet_and_when_the_broker_is_gone() {
        let mut shelves = BTreeMap::new();
        let frame = |shelves: &_, broker, only| picture(shelves, Tick(0), broker, only);
        assert_eq!(frame(&shelves, Broker::NotYet, None), "");
        assert_eq!(frame(&shelves, Broker::Answers, None), "no node has told of its LEDs yet\n");
        assert_eq!(frame(&shelves, Broker::Answers, Some("pi")), "pi has not told of its LEDs yet\n");
        let told = br#"{"v":1,"board":"b","leds":[{"name":"node","colour":"blue","pattern":"solid","shows":"node"}]}"#;
        take(&mut shelves, "pi", &NodeTopic::Leds, told, Tick(0));
        assert_eq!(frame(&shelves, Broker::Gone, None).lines().count(), 2, "the last picture and a word about it");
        assert!(frame(&shelves, Broker::Gone, None).contains("does not answer any more"));
    }

    #[test]
    fn there_is_nothing_to_light_on_a_machine_without_pins() {
        for (board, hats) in [
            (None, ""),
            (Some("generic"), ""),
            (Some("simulated"), ""),
            (Some("rpi-4b"), ""),
            (Some("rpi-4b"), "plain"),
            (Some("rpi-5"), "led-shim"),
        ] {
            let hats: Vec<String> = hats.split_whitespace().map(str::to_owned).collect();
            let told = test(board, &hats).unwrap_err();
            assert!(told.fix.is_some() && told.exit.code() == 1, "{board:?}: {}", told.what);
        }
        assert_eq!(test(Some("toaster"), &[]).unwrap_err().exit.code(), 2);
        assert_eq!(test(Some("rpi-4b"), &["toaster".to_owned()]).unwrap_err().exit.code(), 2);
    }

    /// What a driver was told: how many LEDs were lit in each frame, then the end.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Driver for Told {
        fn show(&mut self, frame: &[Light]) -> Result<(), DriverError> {
            let lit = frame.iter().position(|light| light.is_lit());
            self.0.lock().unwrap().push(format!("lit {}", lit.unwrap()));
            Ok(())
        }

        fn works(&self) -> bool {
            true
        }

        fn leave(&mut self) -> Leaving {
            let told = self.0.clone();
            Leaving::by(move || told.lock().unwrap().push("dark".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_test_that_is_ended_leaves_its_leds_dark() {
        let leds = Board::named("simulated").unwrap().leds;
        let whole = Told::default();
        let never = std::future::pending();
        one_by_one(Box::new(whole.clone()), &leds[..3], Duration::from_millis(1), never).await.unwrap();
        assert_eq!(*whole.0.lock().unwrap(), ["lit 0", "lit 1", "lit 2", "dark"]);
        let ended = Told::default();
        let long = Duration::from_secs(3600);
        let report = one_by_one(Box::new(ended.clone()), &leds[..3], long, std::future::ready(())).await.unwrap_err();
        assert_eq!((report.what.as_str(), report.exit.code()), ("the test was ended at LED 1 of 3", 1));
        assert_eq!(*ended.0.lock().unwrap(), ["lit 0", "dark"]);
    }

    #[test]
    fn hats_go_together_on_the_boards_that_have_what_they_need() {
        let hat = |body: &str| Hat::parse(&format!("kind = 'hat'\nname = 'x'\ntitle = 'x'\n{body}")).unwrap();
        let plain = Hat::named("plain").unwrap();
        assert_eq!(boards_for(std::slice::from_ref(&plain)).unwrap(), "every board that comes with Bramble");
        let some = boards_for(&[hat("[[strip]]\ndriver = 'ws2812'\npixels = 1\nspi = '4.0'")]).unwrap();
        assert!(
            some.starts_with("generic, rpi-400, rpi-4b, rpi-cm4, simulated; not on rpi-1, ") && some.contains("name the board"),
            "{some}"
        );
        let none = boards_for(&[plain.clone(), plain]).unwrap_err();
        assert!(none.exit.code() == 2 && none.what.contains("do not go together"), "{}", none.what);
    }

    #[test]
    fn leds_are_not_tested_beside_an_agent_that_drives_them() {
        let told = claim_of(Ok(None)).unwrap_err();
        assert!(told.exit.code() == 1 && told.fix.unwrap().contains("stop the agent first"));
        let told = claim_of(Err(std::io::Error::other("none"))).unwrap_err();
        assert!(told.exit.code() == 1 && told.fix.is_some());
    }

    #[test]
    fn a_line_shows_dots_and_words_and_a_node_that_is_gone_shows_its_lost_link() {
        let led = |name: &str, pattern, shows: &str| LedPicture {
            name: name.into(),
            colour: Colour::Green,
            pattern,
            shows: shows.into(),
            pods: Vec::new(),
            rgb: None,
        };
        let picture = Picture {
            v: 1,
            board: "simulated".into(),
            leds: vec![
                led("node", Pattern::Solid, "node"),
                led("pod-1", Pattern::FastBlink, "default/web"),
                led("pod-2", Pattern::Off, ""),
            ],
            night: false,
            page: None,
        };
        let mut shelves = BTreeMap::new();
        take(&mut shelves, "pi", &NodeTopic::Availability, b"online", Tick(0));
        take(&mut shelves, "pi", &NodeTopic::Leds, &serde_json::to_vec(&picture).unwrap(), Tick(0));
        let drawn = shelves.get("pi").unwrap();
        assert_eq!(line("pi", drawn, Tick(0), false), "pi               ●●○  node=node (solid) pod-1=default/web (fast blink)\n");
        assert!(line("pi", drawn, Tick(150), false).contains("●○○"));
        let shared = LedPicture {
            pods: vec!["default/web".into(), "default/x".into(), "default/y".into()],
            rgb: Some([1, 2, 3]),
            ..led("pod-1", Pattern::Solid, "default/web")
        };
        let page = Some(PageNumber { number: 2, of: 3 });
        let many = Picture { leds: vec![shared], night: true, page, ..picture };
        take(&mut shelves, "many", &NodeTopic::Leds, &serde_json::to_vec(&many).unwrap(), Tick(0));
        let drawn = shelves.get("many").unwrap();
        assert_eq!(
            line("many", drawn, Tick(0), false),
            "many             ●  pod-1=default/web+2 (solid) page 2 of 3 night: the LEDs themselves are dark or dimmed\n"
        );
        assert!(line("many", drawn, Tick(0), true).contains("\x1b[1;38;2;1;2;3m●"));
        take(&mut shelves, "pi", &NodeTopic::Availability, b"offline", Tick(200));
        assert!(line("pi", shelves.get("pi").unwrap(), Tick(200), false).contains("node=node (long-short)"));
    }
}
