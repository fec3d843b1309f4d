//! What a shelf shows, case by case, and what holds for any pods.

use super::*;
use crate::agent::led::night::Hours;
use crate::agent::led::palette::Palette;
use crate::agent::led::pattern::Pattern;
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
    let all =
        [light("d/a", None, PodState::Ready), light("d/b", None, PodState::Ready), light("d/c", Some("pod-1"), PodState::Ready)];
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
    assert!(!shelf.frame[1].is_lit(), "it burned: it begins with the dark");
    let mut edges = Vec::new();
    for _ in 0..4 {
        let wake = shelf.next_wake().unwrap();
        out.clear();
        shelf.wake(Now { tick: wake, wall: Wall(0) }, &mut out);
        let [ShelfEffect::Show(frame)] = out.as_slice() else { panic!("a frame an edge: {out:?}") };
        edges.push((wake.0, frame[1].is_lit()));
    }
    assert_eq!(edges, [(1100, true), (1200, false), (1300, true), (1400, false)]);
}

#[test]
fn a_change_to_a_blink_is_seen_at_once_on_an_led_that_burns_and_on_one_that_is_dark() {
    use PodState::{CrashLoop, NotReady, Ready, Starting};
    for colour in [Colour::Green, Colour::Rgb] {
        for (before, after) in
            [(Ready, Starting), (Ready, NotReady), (Ready, CrashLoop), (Starting, CrashLoop), (NotReady, Starting)]
        {
            for dark in [false, true] {
                let mut shelf = shelf_with(1, colour, Settings::default());
                handled(&mut shelf, at(0), ShelfInput::Pods(vec![light("d/a", None, before)]));
                // Patterns that begin from dark burn for 150 ms at least, and are dark 600 ms after their begin.
                let (wall, moment) = (0, if dark && before != Ready { 600 } else { 100 });
                watched(&mut shelf, wall, moment);
                let burned = shelf.frame[1];
                let out = handled(&mut shelf, at(moment), ShelfInput::Pods(vec![light("d/a", None, after)]));
                let seen = out.iter().any(|effect| matches!(effect, ShelfEffect::Show(frame) if frame[1] != burned));
                assert!(seen, "{before:?} ({burned:?}) to {after:?}: {out:?}");
            }
        }
    }
    let mut shelf = shelf_with(1, Colour::Green, Settings::default());
    let out = handled(&mut shelf, at(10), ShelfInput::Link(false));
    assert!(out.iter().any(|effect| matches!(effect, ShelfEffect::Show(frame) if !frame[0].is_lit())), "{out:?}");
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

/// A shelf with a node LED and these LEDs of pods, of one colour or of all.
fn shelf_with(pod_leds: usize, colour: Colour, settings: Settings) -> Shelf {
    let mut board = Board::named("simulated").unwrap();
    board.leds.truncate(pod_leds + 1);
    for led in &mut board.leds {
        led.colour = colour;
    }
    let mut shelf = Shelf::with(board, settings, Zone::default());
    shelf.handle(at(0), ShelfInput::Link(true), &mut Vec::new());
    shelf
}

fn patterns(shelf: &Shelf) -> Vec<Pattern> {
    shelf.picture().unwrap().leds.iter().map(|led| led.pattern).collect()
}

fn handled(shelf: &mut Shelf, now: Now, input: ShelfInput) -> Vec<ShelfEffect> {
    let mut out = Vec::new();
    shelf.handle(now, input, &mut out);
    out
}

/// Wakes it when it wants to be woken, until `end`: each frame that came, with its time.
fn watched(shelf: &mut Shelf, wall: i64, end: u64) -> Vec<(u64, Vec<Light>)> {
    let (mut frames, mut out) = (Vec::new(), Vec::new());
    while let Some(next) = shelf.next_wake().filter(|next| next.0 < end) {
        shelf.wake(Now { tick: next, wall: Wall(wall + i64::try_from(next.0).unwrap()) }, &mut out);
        assert_ne!(shelf.next_wake(), Some(next), "it would turn in circles");
        frames.extend(out.drain(..).filter_map(|effect| match effect {
            ShelfEffect::Show(frame) => Some((next.0, frame)),
            ShelfEffect::Tell(_) => None,
        }));
    }
    frames
}

#[test]
fn pods_that_share_an_led_show_the_worst_of_them() {
    use PodState::{CrashLoop, NotReady, Pulling, Ready, Starting};
    for (states, shows, pattern) in [
        ([Ready, Ready, Ready], "d/0", Pattern::Solid),
        ([Ready, Pulling, Starting], "d/1", Pattern::SlowBlink),
        ([NotReady, Pulling, Ready], "d/0", Pattern::DoubleBlink),
        ([NotReady, Ready, CrashLoop], "d/2", Pattern::FastBlink),
    ] {
        let mut shelf = shelf_with(1, Colour::Green, Settings::default());
        let pods = states.iter().enumerate().map(|(index, state)| light(&format!("d/{index}"), None, *state)).collect();
        handled(&mut shelf, at(1), ShelfInput::Pods(pods));
        let led = &shelf.picture().unwrap().leds[1];
        assert_eq!((led.shows.as_str(), led.pattern), (shows, pattern));
        assert_eq!(led.pods, ["d/0", "d/1", "d/2"]);
    }
}

#[test]
fn only_those_who_ask_are_shown_when_that_is_wanted() {
    let mut shelf = shelf_with(2, Colour::Green, Settings { overflow: Overflow::Annotation, ..Settings::default() });
    let pods = vec![light("d/a", None, PodState::CrashLoop), light("d/b", Some("pod-2"), PodState::Ready)];
    handled(&mut shelf, at(1), ShelfInput::Pods(pods));
    assert_eq!(shown(&shelf), ["node", "", "d/b"]);
}

#[test]
fn pages_come_in_turn_with_a_dark_mark_in_which_a_crash_loop_still_blinks() {
    let settings = Settings { overflow: Overflow::Page, page: Duration::from_secs(2), ..Settings::default() };
    let mut shelf = shelf_with(2, Colour::Green, settings);
    let mut pods: Vec<PodLight> = (0..4).map(|pod| light(&format!("d/{pod}"), None, PodState::Ready)).collect();
    handled(&mut shelf, at(0), ShelfInput::Pods(pods.clone()));
    assert_eq!(shown(&shelf), ["node", "d/0", "d/1"]);
    let lit = |frame: &[Light]| frame.iter().map(|light| if light.is_lit() { '#' } else { '.' }).collect::<String>();
    let seen: Vec<(u64, String)> = watched(&mut shelf, 0, 5500).into_iter().map(|(time, frame)| (time, lit(&frame))).collect();
    let expected = [(2000, "#.."), (2600, "###"), (4600, "#.."), (5200, "###")];
    assert_eq!(seen, expected.map(|(time, frame)| (time, frame.to_owned())));
    assert_eq!(shelf.picture().unwrap().page, Some(PageNumber { number: 1, of: 2 }));

    // The third pod is on the first LED, on the second page.
    pods[2].state = PodState::CrashLoop;
    handled(&mut shelf, at(5500), ShelfInput::Pods(pods));
    let mark: Vec<(u64, String)> = watched(&mut shelf, 0, 7800).into_iter().map(|(time, frame)| (time, lit(&frame))).collect();
    let blinks = [(7200, "#.."), (7300, "##."), (7400, "#.."), (7500, "##."), (7600, "#.."), (7700, "##.")];
    assert_eq!(mark[..], blinks.map(|(time, frame)| (time, frame.to_owned())));
}

const NIGHT: i64 = 1_795_996_800_000;

#[test]
fn brightness_and_night_hours_hold_for_all_but_what_a_person_must_see() {
    let night = |percent, alarms| Settings {
        brightness_percent: 40,
        night: Hours::parse("22:00-07:00"),
        night_brightness_percent: percent,
        night_alarms: alarms,
        ..Settings::default()
    };
    let day = NIGHT + 12 * 3_600_000;
    // Levels of the node's LED, of a pod that is ready and of one in a crash loop.
    for (settings, wall, levels) in [
        (night(0, false), day, [102, 102, 102]),
        (night(0, false), NIGHT, [0, 0, 0]),
        (night(10, false), NIGHT, [25, 25, 25]),
        (night(0, true), NIGHT, [0, 0, 102]),
        (Settings::default(), NIGHT, [255, 255, 255]),
    ] {
        let now = Now { tick: Tick(0), wall: Wall(wall) };
        let mut shelf = Shelf::with(Board::named("simulated").unwrap(), settings.clone(), Zone::default());
        handled(&mut shelf, now, ShelfInput::Link(true));
        let pods = vec![light("d/a", None, PodState::Ready), light("d/b", None, PodState::CrashLoop)];
        handled(&mut shelf, now, ShelfInput::Pods(pods));
        let shown: Vec<u8> = shelf.frame[..3].iter().map(|light| light.level()).collect();
        assert_eq!(shown, levels, "{settings:?} {wall}");
        assert_eq!(shelf.picture().unwrap().night, wall == NIGHT && settings.night.is_some());
        assert_eq!(patterns(&shelf)[2], Pattern::FastBlink, "a drawing has no night");
        if levels[2] == 0 {
            assert_eq!(shelf.next_wake(), Some(Tick(600_000)), "what is dark does not blink");
        }
        handled(&mut shelf, now, ShelfInput::Identify(Duration::from_secs(1)));
        assert!(shelf.frame.iter().all(|light| *light == Light::white(255)), "who looks for it stands before it");
    }
}

#[test]
fn morning_comes_by_itself() {
    let settings = Settings { night: Hours::parse("22:00-07:00"), ..Settings::default() };
    let mut shelf = Shelf::with(Board::named("simulated").unwrap(), settings, Zone::default());
    let now = Now { tick: Tick(0), wall: Wall(NIGHT + 6 * 3_600_000) };
    assert!(!handled(&mut shelf, now, ShelfInput::Link(true)).iter().any(|effect| matches!(effect, ShelfEffect::Show(_))));
    let frames = watched(&mut shelf, now.wall.0, 2 * 3_600_000);
    let [(time, frame)] = frames.as_slice() else { panic!("one frame: {frames:?}") };
    assert_eq!((*time, frame[0].level()), (3_600_000, 255));
    let picture = shelf.picture().unwrap();
    assert!(!picture.night);
}

#[test]
fn an_led_of_any_colour_burns_in_its_states_colour_and_others_in_their_own() {
    let pods = || vec![light("d/a", None, PodState::CrashLoop)];
    let settings = Settings { palette: Palette::ColourBlind, brightness_percent: 50, ..Settings::default() };
    let mut rgb = shelf_with(2, Colour::Rgb, settings.clone());
    handled(&mut rgb, at(0), ShelfInput::Pods(pods()));
    assert_eq!(rgb.frame[1], Light { red: 127, green: 21, blue: 0 });
    let told: Vec<_> = rgb.picture().unwrap().leds.iter().map(|led| led.rgb).collect();
    assert_eq!(told, [Some([0, 114, 178]), Some([213, 94, 0]), None]);
    let mut green = shelf_with(2, Colour::Green, settings);
    handled(&mut green, at(0), ShelfInput::Pods(pods()));
    assert_eq!((green.frame[1], green.picture().unwrap().leds[1].rgb), (Light::white(127), None));
}

#[test]
fn a_steady_shelf_wakes_nobody_whatever_is_set_but_hours() {
    for overflow in [Overflow::Worst, Overflow::Page, Overflow::Annotation] {
        let mut shelf = shelf_with(3, Colour::Rgb, Settings { overflow, brightness_percent: 5, ..Settings::default() });
        let pods = (0..3).map(|pod| light(&format!("d/{pod}"), None, PodState::Ready)).collect();
        handled(&mut shelf, at(7), ShelfInput::Pods(pods));
        assert_eq!(shelf.next_wake(), None, "{overflow:?}");
        // A wake for another reason makes nothing of it.
        let mut out = Vec::new();
        shelf.wake(at(1_000_000), &mut out);
        assert_eq!((out, shelf.next_wake()), (Vec::new(), None));
    }
}

#[test]
fn a_light_comes_before_the_message_about_it() {
    let mut shelf = shelf_with(3, Colour::Green, Settings::default());
    let out = handled(&mut shelf, at(1), ShelfInput::Pods(vec![light("d/a", None, PodState::Ready)]));
    assert!(matches!(out.as_slice(), [ShelfEffect::Show(_), ShelfEffect::Tell(_)]), "{out:?}");
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn state() -> impl Strategy<Value = PodState> {
        let all = [PodState::Pulling, PodState::Starting, PodState::Ready, PodState::NotReady, PodState::CrashLoop];
        proptest::sample::select(all.to_vec())
    }

    fn pods() -> impl Strategy<Value = Vec<PodLight>> {
        let wish = proptest::option::weighted(0.3, proptest::sample::select(vec!["pod-1", "pod-2", "nowhere"]));
        proptest::collection::btree_map(0u8..30, (wish, state()), 0..24)
            .prop_map(|pods| pods.into_iter().map(|(pod, (wish, state))| light(&format!("d/{pod}"), wish, state)).collect())
    }

    proptest! {
        #[test]
        fn in_worst_every_pod_is_told_and_no_crash_loop_is_hidden(leds in 1usize..8, before in pods(), after in pods()) {
            let mut shelf = shelf_with(leds, Colour::Green, Settings::default());
            handled(&mut shelf, at(1), ShelfInput::Pods(before));
            handled(&mut shelf, at(2), ShelfInput::Pods(after.clone()));
            let picture = shelf.picture().unwrap();
            let mut told: Vec<&str> = Vec::new();
            for led in &picture.leds[1..] {
                if led.pods.is_empty() { told.extend(Some(led.shows.as_str()).filter(|pod| !pod.is_empty())) } else { told.extend(led.pods.iter().map(String::as_str)) }
            }
            told.sort_unstable();
            let mut all: Vec<&str> = after.iter().map(|pod| pod.pod.as_str()).collect();
            all.sort_unstable();
            prop_assert_eq!(told, all, "each pod on one LED");
            for pod in after.iter().filter(|pod| pod.state == PodState::CrashLoop) {
                let its = picture.leds.iter().find(|led| led.shows == pod.pod || led.pods.contains(&pod.pod)).unwrap();
                prop_assert_eq!(its.pattern, Pattern::FastBlink);
            }
        }

        #[test]
        fn in_pages_every_pod_is_told_within_one_round_and_a_crash_loop_within_one_page(leds in 1usize..8, all in pods()) {
            let page = Duration::from_secs(2);
            let mut shelf = shelf_with(leds, Colour::Green, Settings { overflow: Overflow::Page, page, ..Settings::default() });
            handled(&mut shelf, at(0), ShelfInput::Pods(all.clone()));
            let pages = shelf.picture().unwrap().page.map_or(1, |page| page.of) as u64;
            let mut seen: BTreeSet<String> = shown(&shelf).into_iter().collect();
            let mut alarms: BTreeSet<usize> = BTreeSet::new();
            let round = pages * 2600;
            let mut out = Vec::new();
            while let Some(next) = shelf.next_wake().filter(|next| next.0 < round) {
                shelf.wake(at(next.0), &mut out);
                seen.extend(shown(&shelf));
                if next.0 < 2600 {
                    alarms.extend((0..=leds).filter(|led| shelf.slots[*led].state == State::CrashLoop));
                }
            }
            for pod in &all {
                prop_assert!(seen.contains(&pod.pod), "{} is never shown in {} pages", pod.pod, pages);
                let mut its = (1..=leds).filter(|led| shelf.places.of(*led).any(|on| on == pod.pod));
                prop_assert!(pod.state != PodState::CrashLoop || its.any(|led| alarms.contains(&led)), "{} is hidden", pod.pod);
            }
        }
    }
}
