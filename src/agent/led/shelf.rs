//! What each LED of a node shows now.
//!
//! In:       the pods' lights, whether the link is up, who asked to identify the board; time.
//! Out:      frames for the driver when something changes, and a picture for messages when its patterns change.
//! Never:    wakes anybody for an LED that is steady, or dark at night.
//!
//! Which LED is whose is `places.rs`' to say, what a state looks like `palette.rs`'.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Light;
use super::night::{Watch, Zone};
use super::pages::{Pages, Turn};
use super::palette::{State, level};
use super::places::{Places, Who};
use super::settings::{Overflow, Settings};
use crate::board::{Board, Colour, Led, Shows};
use crate::clock::{Now, Tick};
use crate::step::Machine;

pub use super::picture::{LedPicture, PageNumber, Picture};

/// How a pod is, as far as an LED can tell. One that has done its work is no pod for an LED any more.
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
}

impl PodState {
    /// What an LED tells of it.
    #[must_use]
    pub fn state(self) -> State {
        match self {
            PodState::Pulling | PodState::Starting => State::Starting,
            PodState::Ready => State::Ready,
            PodState::NotReady => State::NotReady,
            PodState::CrashLoop => State::CrashLoop,
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

/// The LEDs of one board.
pub struct Shelf {
    board: Board,
    settings: Settings,
    pods: Vec<PodLight>,
    places: Places,
    pages: Pages,
    turn: Turn,
    night: Watch,
    link: bool,
    driven: bool,
    identify_until: Option<Tick>,
    /// What each LED tells.
    slots: Vec<Slot>,
    frame: Vec<Light>,
    drawn_at: Tick,
    picture: Option<Picture>,
}

/// What one LED tells.
#[derive(Clone, Copy)]
struct Slot {
    state: State,
    since: Tick,
    /// How far into its pattern it began.
    ahead: Duration,
}

impl Slot {
    /// Whether it burns at this moment, and how long that stays so; `None`: for ever.
    fn at(&self, now: Tick) -> (bool, Option<Duration>) {
        self.state.pattern().at(now.since(self.since) + self.ahead)
    }
}

/// What one LED is about.
#[derive(Default)]
struct About {
    state: State,
    shows: String,
    /// Those that it is for, where they are several.
    pods: Vec<String>,
}

impl Shelf {
    /// All dark, without link; as the settings are when nobody says.
    #[must_use]
    pub fn new(board: Board) -> Self {
        Self::with(board, Settings::default(), Zone::default())
    }

    /// Whether anything burns. Where nothing does, nobody wakes up for a blink: who draws the picture blinks by himself.
    #[must_use]
    pub fn driven(self, driven: bool) -> Self {
        Self { driven, ..self }
    }

    /// All dark, without link. The zone is the one of the night hours.
    #[must_use]
    pub fn with(board: Board, settings: Settings, zone: Zone) -> Self {
        let count = board.leds.len();
        // Without LEDs nothing changes at night.
        let hours = settings.night.filter(|_| count > 0);
        Self {
            pages: Pages::new(settings.page),
            night: Watch::new(hours, zone),
            board,
            settings,
            pods: Vec::new(),
            places: Places::default(),
            turn: Turn::Page(0),
            link: false,
            driven: true,
            identify_until: None,
            slots: vec![Slot { state: State::Nothing, since: Tick(0), ahead: Duration::ZERO }; count],
            frame: vec![Light::DARK; count],
            drawn_at: Tick(0),
            picture: None,
        }
    }

    fn place_pods(&mut self, now: Tick) {
        let leds: Vec<(usize, &str)> = self
            .board
            .leds
            .iter()
            .enumerate()
            .filter(|(_, led)| led.shows == Shows::Pod)
            .map(|(index, led)| (index, led.name.as_str()))
            .collect();
        let who = match self.settings.overflow {
            Overflow::Worst | Overflow::Page => Who::All,
            Overflow::Annotation => Who::ThoseWhoAsk,
        };
        self.places.arrange(&self.pods, &leds, who);
        let count = if self.settings.overflow == Overflow::Page { self.places.most() } else { 1 };
        self.pages.set_count(count, now);
    }

    /// What the LEDs of pods are about, by LED.
    fn about_pods(&self) -> BTreeMap<usize, About> {
        let mut states: BTreeMap<&str, State> = BTreeMap::new();
        for pod in &self.pods {
            let state = states.entry(pod.pod.as_str()).or_default();
            *state = pod.state.state().max(*state);
        }
        let state = |pod: &str| states.get(pod).copied().unwrap_or_default();
        let of = |led: usize| {
            let pods: Vec<&str> = self.places.of(led).collect();
            let worst = pods.iter().rev().copied().max_by_key(|pod| state(pod))?;
            let shown = match self.settings.overflow {
                Overflow::Worst | Overflow::Annotation => worst,
                // Where there are fewer pods than pages they come round sooner.
                Overflow::Page => pods.iter().copied().cycle().nth(self.turn.page() % pods.len()).unwrap_or(worst),
            };
            let several = if pods.len() > 1 { pods.into_iter().map(str::to_owned).collect() } else { Vec::new() };
            Some(About { state: state(shown), shows: shown.to_owned(), pods: several })
        };
        (0..self.board.leds.len()).filter_map(|led| Some((led, of(led)?))).collect()
    }

    /// Whether one of this LED's pods is in a crash loop.
    fn has_crash_loop(&self, led: usize) -> bool {
        let loops = |pod: &str| self.pods.iter().any(|light| light.pod == pod && light.state == PodState::CrashLoop);
        self.places.of(led).any(loops)
    }

    /// What an LED tells at this moment, if it is about `state`.
    fn told(&self, led: usize, shows: Shows, state: State) -> State {
        match (self.identify_until, self.turn, shows) {
            (Some(_), ..) => State::Identify,
            (None, Turn::Mark(_), Shows::Pod) if self.has_crash_loop(led) => State::CrashLoop,
            (None, Turn::Mark(_), Shows::Pod) => State::Nothing,
            (None, Turn::Page(_), Shows::Pod) | (None, _, Shows::Node) => state,
        }
    }

    fn settle(&mut self, now: Now, out: &mut Vec<ShelfEffect>) {
        let mut about = self.about_pods();
        let mut leds = Vec::with_capacity(self.board.leds.len());
        let mut tells = Vec::with_capacity(self.board.leds.len());
        for (index, led) in self.board.leds.iter().enumerate() {
            let About { state, shows, pods } = match led.shows {
                Shows::Node => {
                    let state = if self.link { State::Linked } else { State::LinkLost };
                    About { state, shows: "node".to_owned(), pods: Vec::new() }
                }
                Shows::Pod => about.remove(&index).unwrap_or_default(),
            };
            tells.push(self.told(index, led.shows, state));
            // The mark between two pages is for the eye, and not told.
            let state = if self.identify_until.is_some() { State::Identify } else { state };
            let rgb = (led.colour == Colour::Rgb && state != State::Nothing).then(|| {
                let hue = state.hue(self.settings.palette);
                [hue.0, hue.1, hue.2]
            });
            let pattern = state.pattern();
            leds.push(LedPicture { name: led.name.clone(), colour: led.colour, pattern, shows, pods, rgb });
        }
        let burning = self.board.leds.iter().zip(&self.frame);
        let slots = self.slots.iter().zip(tells).zip(burning).map(|((slot, state), (led, burns))| match slot.state == state {
            true => *slot,
            false => self.begun(state, now.tick, led.colour, *burns),
        });
        self.slots = slots.collect();
        // First the light: messages are for who is far away.
        self.draw(now, out);
        let page = PageNumber { number: self.turn.page() + 1, of: self.pages.count() };
        let picture = Picture {
            v: crate::link::message::SCHEMA,
            board: self.board.name.clone(),
            leds,
            night: self.night.is_night(),
            page: Some(page).filter(|page| page.of > 1),
        };
        if self.picture.as_ref() != Some(&picture) {
            self.picture = Some(picture.clone());
            out.push(ShelfEffect::Tell(picture));
        }
    }

    /// An LED that tells something else from now on. A pattern that begins with the light that burns already would not be seen to begin, for
    /// half a second at worst: it begins with its first dark time. To identify a board all its LEDs blink together.
    fn begun(&self, state: State, since: Tick, colour: Colour, burns: Light) -> Slot {
        let light = self.light(state, colour);
        let unseen = light.is_lit() && light == burns && state != State::Identify;
        let lit = state.pattern().at(Duration::ZERO).1.filter(|_| unseen);
        Slot { state, since, ahead: lit.unwrap_or_default() }
    }

    /// How an LED of this colour burns that tells this, while it is lit.
    fn light(&self, state: State, colour: Colour) -> Light {
        let level = self.level(state);
        if colour == Colour::Rgb { state.hue(self.settings.palette).light(level) } else { Light::white(level) }
    }

    /// How bright an LED burns that tells this: 0 to 255.
    fn level(&self, state: State) -> u8 {
        let settings = &self.settings;
        level(match state {
            // Whoever asked stands before it.
            State::Identify => 100,
            state if self.night.is_night() && !(state.is_alarm() && settings.night_alarms) => settings.night_brightness_percent,
            _ => settings.brightness_percent,
        })
    }

    fn draw(&mut self, now: Now, out: &mut Vec<ShelfEffect>) {
        self.drawn_at = now.tick;
        let light = |(slot, led): (&Slot, &Led)| {
            if slot.at(now.tick).0 { self.light(slot.state, led.colour) } else { Light::DARK }
        };
        let frame: Vec<Light> = self.slots.iter().zip(&self.board.leds).map(light).collect();
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
                self.place_pods(now.tick);
            }
            ShelfInput::Link(up) => self.link = up,
            ShelfInput::Identify(how_long) => self.identify_until = Some(now.tick.after(how_long)),
        }
        self.turn = self.pages.turn(now.tick);
        self.night.look(now);
        self.settle(now, out);
    }

    fn wake(&mut self, now: Now, out: &mut Vec<ShelfEffect>) {
        let identified = self.identify_until.is_some_and(|until| until <= now.tick);
        if identified {
            self.identify_until = None;
        }
        let turn = self.pages.turn(now.tick);
        let turned = turn != self.turn;
        self.turn = turn;
        let dusk_or_dawn = self.night.look(now);
        if identified || turned || dusk_or_dawn {
            self.settle(now, out);
        } else {
            self.draw(now, out);
        }
    }

    fn next_wake(&self) -> Option<Tick> {
        let blink = self
            .slots
            .iter()
            // What is dark by night does not blink.
            .filter(|slot| self.driven && self.level(slot.state) > 0)
            .filter_map(|slot| slot.at(self.drawn_at).1)
            .min()
            .map(|lasts| self.drawn_at.after(lasts));
        [blink, self.identify_until, self.pages.next_wake(), self.night.next_wake()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
