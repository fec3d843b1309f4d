//! Which LED is whose: a pod keeps its LED as long as it lives, and where there are more pods than LEDs they share.
//!
//! In:       all pods in the node's order, the LEDs that show pods.
//! Out:      for each LED its pods.
//! Rules:    1. Who asks for an LED by name has it, with all who ask for the same. Who had it without asking gives way, if there is an LED
//!              that nobody asks for.
//!           2. Every other pod takes the LED that nobody asks for, with the fewest pods, the first of those.
//!           3. Nobody moves because an LED became free.

use std::collections::{BTreeMap, BTreeSet};

use super::shelf::PodLight;

/// Who has an LED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Every pod.
    All,
    /// Pods that ask for one by name.
    ThoseWhoAsk,
}

/// LEDs by pod.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, usize>);

impl Places {
    /// Gives each pod its LED. `leds`: index and name of those that show pods.
    pub(super) fn arrange(&mut self, pods: &[PodLight], leds: &[(usize, &str)], who: Who) {
        let asked_for = |pod: &PodLight| {
            let wanted = pod.wants.as_deref()?;
            leds.iter().find(|(_, name)| *name == wanted).map(|(index, _)| *index)
        };
        let wishes: BTreeMap<&str, usize> = pods.iter().filter_map(|pod| Some((pod.pod.as_str(), asked_for(pod)?))).collect();
        let asked: BTreeSet<usize> = wishes.values().copied().collect();
        let others = leds.iter().any(|(index, _)| !asked.contains(index));
        let living: BTreeSet<&str> = pods.iter().map(|pod| pod.pod.as_str()).collect();
        self.0.retain(|pod, led| {
            let gives_way = asked.contains(led) && others && !wishes.contains_key(pod.as_str());
            living.contains(pod.as_str()) && !gives_way && (who == Who::All || wishes.contains_key(pod.as_str()))
        });
        self.0.extend(wishes.iter().map(|(pod, led)| ((*pod).to_owned(), *led)));
        if who == Who::ThoseWhoAsk {
            return;
        }
        let mut count: BTreeMap<usize, usize> = BTreeMap::new();
        for led in self.0.values() {
            *count.entry(*led).or_default() += 1;
        }
        for pod in pods {
            if self.0.contains_key(&pod.pod) {
                continue;
            }
            let fewest = |index: &usize| (asked.contains(index), count.get(index).copied().unwrap_or_default());
            let Some(led) = leds.iter().map(|(index, _)| *index).min_by_key(fewest) else { return };
            *count.entry(led).or_default() += 1;
            self.0.insert(pod.pod.clone(), led);
        }
    }

    /// The pods of an LED, by name.
    pub(super) fn of(&self, led: usize) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(_, at)| **at == led).map(|(pod, _)| pod.as_str())
    }

    /// The most pods that one LED has.
    pub(super) fn most(&self) -> usize {
        let mut count: BTreeMap<usize, usize> = BTreeMap::new();
        for led in self.0.values() {
            *count.entry(*led).or_default() += 1;
        }
        count.into_values().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::shelf::PodState;
    use super::*;
    use proptest::prelude::*;

    const LEDS: [(usize, &str); 3] = [(1, "a"), (2, "b"), (4, "c")];

    /// `x` is a pod, `x@b` one that asks for the LED b.
    fn pods(text: &str) -> Vec<PodLight> {
        text.split_whitespace()
            .map(|word| {
                let (pod, wants) = word.split_once('@').map_or((word, None), |(pod, led)| (pod, Some(led.to_owned())));
                PodLight { pod: pod.to_owned(), wants, state: PodState::Ready }
            })
            .collect()
    }

    fn told(places: &Places) -> String {
        LEDS.map(|(led, name)| format!("{name}:{}", places.of(led).collect::<String>())).join(" ")
    }

    #[test]
    fn each_change_of_the_pods_moves_as_few_as_can_be() {
        for (who, history, expected) in [
            (Who::All, &["x y"][..], "a:x b:y c:"),
            (Who::All, &["x y z v w"], "a:vx b:wy c:z"),
            // Who goes frees its LED; nobody moves there, the next one comes there.
            (Who::All, &["x y z v", "x z v"], "a:vx b: c:z"),
            (Who::All, &["x y z v", "x z v", "x z v u"], "a:vx b:u c:z"),
            // A wish is granted, and who had it gives way.
            (Who::All, &["x y", "x y z@a"], "a:z b:y c:x"),
            (Who::All, &["x y z", "x y z v@a w@a"], "a:vw b:xy c:z"),
            // When all are asked for, the others share with those who ask.
            (Who::All, &["x@a y@b z@c v"], "a:vx b:y c:z"),
            (Who::All, &["x@a y@b z@c v", "x@a z@c v"], "a:x b:v c:z"),
            // A name that no LED has is no wish.
            (Who::All, &["x@nowhere y@b"], "a:x b:y c:"),
            (Who::ThoseWhoAsk, &["x y@b z@b v@nowhere"], "a: b:yz c:"),
            (Who::ThoseWhoAsk, &["x y@b", "x y"], "a: b: c:"),
        ] {
            let mut places = Places::default();
            for present in history {
                places.arrange(&pods(present), &LEDS, who);
            }
            assert_eq!(told(&places), expected, "{who:?} {history:?}");
        }
    }

    #[test]
    fn without_leds_there_are_no_places() {
        let mut places = Places::default();
        places.arrange(&pods("x y@a"), &[], Who::All);
        assert_eq!(places.most(), 0);
    }

    fn world() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
        proptest::collection::vec((0u8..20, proptest::option::weighted(0.2, 0u8..4)), 0..20)
    }

    fn of(world: &[(u8, Option<u8>)]) -> Vec<PodLight> {
        let by_name: BTreeMap<u8, Option<u8>> = world.iter().copied().collect();
        let words = by_name.iter().map(|(pod, led)| {
            led.map_or(format!("p{pod}"), |led| format!("p{pod}@{}", ["a", "b", "c", "nowhere"][usize::from(led)]))
        });
        pods(&words.collect::<Vec<_>>().join(" "))
    }

    proptest! {
        #[test]
        fn every_pod_has_one_led_and_keeps_it_unless_somebody_asks_for_it(before in world(), after in world()) {
            let (before, after) = (of(&before), of(&after));
            let mut places = Places::default();
            places.arrange(&before, &LEDS, Who::All);
            let had = places.0.clone();
            places.arrange(&after, &LEDS, Who::All);
            prop_assert_eq!(places.0.len(), after.len());
            let asked: BTreeSet<usize> = after
                .iter()
                .filter_map(|pod| LEDS.iter().find(|(_, name)| pod.wants.as_deref() == Some(*name)))
                .map(|(led, _)| *led)
                .collect();
            for pod in &after {
                let has = places.0[&pod.pod];
                let wish = LEDS.iter().find(|(_, name)| pod.wants.as_deref() == Some(*name));
                match (wish, had.get(&pod.pod)) {
                    (Some((wanted, _)), _) => prop_assert_eq!(has, *wanted),
                    (None, Some(old)) if !asked.contains(old) => prop_assert_eq!(has, *old, "{} moved", pod.pod),
                    _ => {}
                }
                if wish.is_none() && asked.len() < LEDS.len() {
                    prop_assert!(!asked.contains(&has), "{} sits where others ask", pod.pod);
                }
            }
        }

        #[test]
        fn no_two_share_while_an_led_is_free_and_none_has_two_more_than_another(count in 0usize..40) {
            let names: Vec<String> = (0..count).map(|pod| format!("p{pod:02}")).collect();
            let mut places = Places::default();
            places.arrange(&pods(&names.join(" ")), &LEDS, Who::All);
            let counts = LEDS.map(|(led, _)| places.of(led).count());
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }
}
