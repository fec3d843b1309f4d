//! Which LED shows which pod: a pod keeps its LED as long as it lives.
//!
//! In:       the pods' lights, whether the link is up, who asked to identify the board; time.
//! Out:      frames for the driver when something changes, and a picture for messages when its patterns change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Light;
use super::pattern::Pattern;
use crate::board::{Board, Colour, Shows};
use crate::clock::{Now, Tick};
use crate::step::Machine;

/// How a pod is, as far as an LED can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Its images are being fetched.
    Pulling,
    /// Its containers are being made.
    Starting,
    /// It serves.
    Ready,
    /// It runs and is not ready, or is being ended.
    NotReady,
    /// It fails again and again.
    CrashLoop,
    /// It has done its work.
    Done,
}

impl PodState {
    /// The pattern of a state.
    #[must_use]
    pub fn pattern(self) -> Pattern {
        match self {
            PodState::Pulling | PodState::Starting => Pattern::SlowBlink,
            PodState::Ready => Pattern::Solid,
            PodState::NotReady => Pattern::DoubleBlink,
            PodState::CrashLoop => Pattern::FastBlink,
            PodState::Done => Pattern::Off,
        }
    }
}

/// One pod, as an LED sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLight {
    /// `namespace/name`.
    pub pod: String,
    /// The LED that its annotation `bramble/led` asks for.
    pub wants: Option<String>,
    /// How it is.
    pub state: PodState,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum ShelfInput {
    /// These are all the pods of the node.
    Pods(Vec<PodLight>),
    /// The link to the master is up or down.
    Link(bool),
    /// Somebody wants to see which board this is, for so long.
    Identify(Duration),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShelfEffect {
    /// Show these, in the board's order.
    Show(Vec<Light>),
    /// Tell what each LED shows.
    Tell(Picture),
}

/// What every LED of a node shows: `up/leds`, retained. JSON: `{"v":1,"board":"rpi-4b","leds":[{"name":"pod-1","colour":"green","pattern":"solid","shows":"default/web"}]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The schema version of the link.
    pub v: u32,
    /// The board file's name.
    pub board: String,
    /// In the board's order.
    pub leds: Vec<LedPicture>,
}

/// One LED of a [`Picture`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedPicture {
    /// As the board file names it.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// How it burns.
    pub pattern: Pattern,
    /// `node`, a pod as `namespace/name`, or empty.
    pub shows: String,
}

/// The LEDs of one board.
pub struct Shelf {
    board: Board,
    pods: Vec<PodLight>,
    /// LED index by pod.
    places: BTreeMap<String, usize>,
    link: bool,
    identify_until: Option<Tick>,
    /// Since when each LED shows its pattern.
    patterns: Vec<(Pattern, Tick)>,
    frame: Vec<Light>,
    drawn_at: Tick,
    picture: Option<Picture>,
}

impl Shelf {
    /// All dark, without link.
    #[must_use]
    pub fn new(board: Board) -> Self {
        let count = board.leds.len();
        Self {
            board,
            pods: Vec::new(),
            places: BTreeMap::new(),
            link: false,
            identify_until: None,
            patterns: vec![(Pattern::Off, Tick(0)); count],
            frame: vec![Light::DARK; count],
            drawn_at: Tick(0),
            picture: None,
        }
    }

    fn place_pods(&mut self) {
        let pods = &self.pods;
        self.places.retain(|pod, _| pods.iter().any(|light| light.pod == *pod));
        let places = &mut self.places;
        // First those who ask for one by name; who holds it without having asked gives way.
        for light in pods {
            let Some(wanted) = &light.wants else { continue };
            let Some(index) = self.board.leds.iter().position(|led| led.name == *wanted && led.shows == Shows::Pod) else {
                continue;
            };
            let holder = places.iter().find(|(_, at)| **at == index).map(|(pod, _)| pod.clone());
            match holder {
                Some(holder) if holder == light.pod => {}
                Some(holder) => {
                    let asked = pods.iter().any(|other| other.pod == holder && other.wants.as_ref() == Some(wanted));
                    if !asked {
                        places.remove(&holder);
                        places.insert(light.pod.clone(), index);
                    }
                }
                None => {
                    places.insert(light.pod.clone(), index);
                }
            }
        }
        for light in pods {
            if places.contains_key(&light.pod) {
                continue;
            }
            let free = (0..self.board.leds.len()).find(|index| {
                self.board.leds.get(*index).is_some_and(|led| led.shows == Shows::Pod) && !places.values().any(|at| at == index)
            });
            if let Some(index) = free {
                places.insert(light.pod.clone(), index);
            }
        }
    }

    fn wanted(&self, index: usize) -> (Pattern, String) {
        let Some(led) = self.board.leds.get(index) else { return (Pattern::Off, String::new()) };
        let (pattern, shows) = match led.shows {
            Shows::Node => (if self.link { Pattern::Solid } else { Pattern::LongShort }, "node".to_owned()),
            Shows::Pod => {
                let pod = self.places.iter().find(|(_, at)| **at == index).map(|(pod, _)| pod);
                pod.and_then(|pod| self.pods.iter().find(|light| light.pod == *pod))
                    .map_or((Pattern::Off, String::new()), |light| (light.state.pattern(), light.pod.clone()))
            }
        };
        if self.identify_until.is_some() { (Pattern::Identify, shows) } else { (pattern, shows) }
    }

    fn settle(&mut self, now: Now, out: &mut Vec<ShelfEffect>) {
        let mut leds = Vec::with_capacity(self.board.leds.len());
        for index in 0..self.board.leds.len() {
            let (pattern, shows) = self.wanted(index);
            if let Some(slot) = self.patterns.get_mut(index)
                && slot.0 != pattern
            {
                *slot = (pattern, now.tick);
            }
            if let Some(led) = self.board.leds.get(index) {
                leds.push(LedPicture { name: led.name.clone(), colour: led.colour, pattern, shows });
            }
        }
        let picture = Picture { v: crate::link::message::SCHEMA, board: self.board.name.clone(), leds };
        if self.picture.as_ref() != Some(&picture) {
            self.picture = Some(picture.clone());
            out.push(ShelfEffect::Tell(picture));
        }
        self.draw(now, out);
    }

    fn draw(&mut self, now: Now, out: &mut Vec<ShelfEffect>) {
        self.drawn_at = now.tick;
        let lit = |(pattern, since): &(Pattern, Tick)| pattern.at(now.tick.since(*since)).0;
        let light = |lit: bool| if lit { Light::white(255) } else { Light::DARK };
        let frame: Vec<Light> = self.patterns.iter().map(|slot| light(lit(slot))).collect();
        if frame != self.frame {
            self.frame.clone_from(&frame);
            out.push(ShelfEffect::Show(frame));
        }
    }

    /// What is shown, to tell it again after a connection.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }
}

impl Machine for Shelf {
    type Input = ShelfInput;
    type Effect = ShelfEffect;

    fn handle(&mut self, now: Now, input: ShelfInput, out: &mut Vec<ShelfEffect>) {
        match input {
            ShelfInput::Pods(pods) => {
                self.pods = pods;
                self.place_pods();
            }
            ShelfInput::Link(up) => self.link = up,
            ShelfInput::Identify(how_long) => self.identify_until = Some(now.tick.after(how_long)),
        }
        self.settle(now, out);
    }

    fn wake(&mut self, now: Now, out: &mut Vec<ShelfEffect>) {
        if self.identify_until.is_some_and(|until| until <= now.tick) {
            self.identify_until = None;
            self.settle(now, out);
        } else {
            self.draw(now, out);
        }
    }

    fn next_wake(&self) -> Option<Tick> {
        let blink = self
            .patterns
            .iter()
            .filter_map(|(pattern, since)| pattern.at(self.drawn_at.since(*since)).1)
            .min()
            .map(|lasts| self.drawn_at.after(lasts));
        [blink, self.identify_until].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    fn at(ms: u64) -> Now {
        Now { tick: Tick(ms), wall: Wall(0) }
    }

    fn light(pod: &str, wants: Option<&str>, state: PodState) -> PodLight {
        PodLight { pod: pod.into(), wants: wants.map(str::to_owned), state }
    }

    fn shown(shelf: &Shelf) -> Vec<String> {
        shelf.picture().unwrap().leds.iter().map(|led| led.shows.clone()).collect()
    }

    fn shelf() -> Shelf {
        let mut shelf = Shelf::new(Board::named("simulated").unwrap());
        shelf.handle(at(0), ShelfInput::Link(true), &mut Vec::new());
        shelf
    }

    #[test]
    fn pods_take_the_next_free_led_and_keep_it() {
        let mut shelf = shelf();
        let mut out = Vec::new();
        let all = [
            light("d/a", None, PodState::Ready),
            light("d/b", None, PodState::Ready),
            light("d/c", Some("pod-1"), PodState::Ready),
        ];
        shelf.handle(at(1), ShelfInput::Pods(all[..2].to_vec()), &mut out);
        assert_eq!(shown(&shelf)[..4], ["node", "d/a", "d/b", ""]);
        shelf.handle(at(2), ShelfInput::Pods(all.to_vec()), &mut out);
        assert_eq!(shown(&shelf)[..4], ["node", "d/c", "d/b", "d/a"], "who asks for an LED gets it");
        shelf.handle(at(3), ShelfInput::Pods(vec![all[0].clone()]), &mut out);
        assert_eq!(shown(&shelf)[..4], ["node", "", "", "d/a"], "the others keep theirs");
    }

    #[test]
    fn more_pods_than_leds_and_names_that_no_led_has_harm_nothing() {
        let mut shelf = shelf();
        let many = (0..20).map(|i| light(&format!("d/{i}"), Some("nowhere"), PodState::Ready)).collect();
        shelf.handle(at(1), ShelfInput::Pods(many), &mut Vec::new());
        assert!(shown(&shelf).iter().all(|shows| !shows.is_empty()));
        let mut none = Shelf::new(Board::named("generic").unwrap());
        none.handle(at(1), ShelfInput::Pods(vec![light("d/a", None, PodState::CrashLoop)]), &mut Vec::new());
        assert_eq!(none.next_wake(), None);
    }

    #[test]
    fn a_blink_wakes_at_its_edges_and_a_steady_shelf_never() {
        let mut shelf = shelf();
        let mut out = Vec::new();
        shelf.handle(at(10), ShelfInput::Pods(vec![light("d/a", None, PodState::Ready)]), &mut out);
        assert_eq!(shelf.next_wake(), None);
        shelf.handle(at(1000), ShelfInput::Pods(vec![light("d/a", None, PodState::CrashLoop)]), &mut out);
        let mut edges = Vec::new();
        for _ in 0..4 {
            let wake = shelf.next_wake().unwrap();
            out.clear();
            shelf.wake(Now { tick: wake, wall: Wall(0) }, &mut out);
            let [ShelfEffect::Show(frame)] = out.as_slice() else { panic!("a frame an edge: {out:?}") };
            edges.push((wake.0, frame[1].is_lit()));
        }
        assert_eq!(edges, [(1100, false), (1200, true), (1300, false), (1400, true)]);
    }

    #[test]
    fn a_lost_link_and_an_identify_are_seen() {
        let mut shelf = shelf();
        shelf.handle(at(5), ShelfInput::Link(false), &mut Vec::new());
        assert_eq!(shelf.picture().unwrap().leds[0].pattern, Pattern::LongShort);
        shelf.handle(at(6), ShelfInput::Identify(Duration::from_secs(1)), &mut Vec::new());
        assert!(shelf.picture().unwrap().leds.iter().all(|led| led.pattern == Pattern::Identify));
        shelf.wake(at(1006), &mut Vec::new());
        assert_eq!(shelf.picture().unwrap().leds[0].pattern, Pattern::LongShort);
    }
}
