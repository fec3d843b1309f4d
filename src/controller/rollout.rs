//! The arithmetic of a rolling deployment: how many replicas each of its sets should have next.
//!
//! In:       what is wanted of all sets together and of each; what is available of each.
//! Out:      numbers.
//! Never:    touches an object (`deployment.rs`).
//! Source:   upstream `deployment_util.go` (NewRSNewReplicas, GetReplicaSetProportion), `rolling.go`, `sync.go`.
//!
//! Two promises hold after every step, however late the counts are: the sets together never want more than
//! `replicas + max_surge`, and no set is made smaller while that could leave fewer than `replicas - max_unavailable`
//! available.

/// What one replica set wants and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// `spec.replicas`.
    pub wanted: i64,
    /// `status.availableReplicas`.
    pub available: i64,
    /// The most pods that the deployment allowed when this set was last scaled, if that is known.
    pub allowed_then: Option<i64>,
}

/// What the new set should want, when `all` sets together want so many and it wants `new`.
#[must_use]
pub fn new_set(replicas: i64, max_surge: i64, all: i64, new: i64) -> i64 {
    if new >= replicas {
        return replicas;
    }
    let room = replicas + max_surge - all;
    new + room.clamp(0, replicas - new)
}

/// What each old set should want, oldest first: those that are not available go first, then others as far as enough stay
/// available.
#[must_use]
pub fn old_sets(replicas: i64, max_unavailable: i64, new: Count, old: &[Count]) -> Vec<i64> {
    let mut wanted: Vec<i64> = old.iter().map(|set| set.wanted).collect();
    let must_stay = replicas - max_unavailable;
    let all: i64 = wanted.iter().sum::<i64>() + new.wanted;
    // Those of the new set that are not available yet may still not become so.
    let spare = all - must_stay - (new.wanted - new.available);
    if spare <= 0 {
        return wanted;
    }
    let mut sick = spare;
    for (wanted, set) in wanted.iter_mut().zip(old) {
        let gone = (*wanted - set.available).clamp(0, sick);
        *wanted -= gone;
        sick -= gone;
    }
    let mut healthy = new.available + old.iter().map(|set| set.available).sum::<i64>() - must_stay;
    for wanted in &mut wanted {
        let gone = (*wanted).min(healthy).max(0);
        *wanted -= gone;
        healthy -= gone;
    }
    wanted
}

/// What each set should want when a deployment is scaled in the middle of a rollout: each its part, the largest (which are
/// to come first in `sets`) what rounding leaves. `has` is how many pods there are, for sets that do not tell what was
/// allowed when they were scaled.
#[must_use]
pub fn proportional(replicas: i64, max_surge: i64, has: i64, sets: &[Count]) -> Vec<i64> {
    let allowed = if replicas > 0 { replicas + max_surge } else { 0 };
    let to_add = allowed - sets.iter().map(|set| set.wanted).sum::<i64>();
    let mut added = 0;
    let mut sizes: Vec<i64> = sets
        .iter()
        .map(|set| {
            let part = part(replicas, max_surge, has, *set, to_add, added);
            added += part;
            set.wanted + part
        })
        .collect();
    if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

fn part(replicas: i64, max_surge: i64, has: i64, set: Count, to_add: i64, added: i64) -> i64 {
    let left = to_add - added;
    if set.wanted == 0 || to_add == 0 || left == 0 {
        return 0;
    }
    let fraction = if replicas == 0 {
        -set.wanted
    } else {
        let then = set.allowed_then.unwrap_or(has);
        if then <= 0 {
            return 0;
        }
        // Rounded to the nearest, half away from zero.
        let now = set.wanted * (replicas + max_surge);
        (2 * now + then) / (2 * then) - set.wanted
    };
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(wanted: i64, available: i64) -> Count {
        Count { wanted, available, allowed_then: None }
    }

    #[test]
    fn a_rollout_of_three_goes_step_by_step() {
        // replicas 3, surge 1, unavailable 0
        assert_eq!(new_set(3, 1, 3, 0), 1);
        assert_eq!(old_sets(3, 0, set(1, 0), &[set(3, 3)]), [3], "the new one is not available yet");
        assert_eq!(old_sets(3, 0, set(1, 1), &[set(3, 3)]), [2]);
        assert_eq!(new_set(3, 1, 3, 1), 2);
        assert_eq!(old_sets(3, 0, set(2, 1), &[set(2, 3)]), [2], "late counts take nothing twice");
        assert_eq!(old_sets(3, 0, set(3, 3), &[set(1, 1)]), [0]);
        assert_eq!(new_set(3, 1, 7, 5), 3, "too many are cut");
    }

    #[test]
    fn sick_old_pods_go_first() {
        assert_eq!(old_sets(4, 1, set(1, 1), &[set(2, 0), set(2, 2)]), [0, 2]);
        assert_eq!(old_sets(4, 4, set(0, 0), &[set(2, 2), set(2, 2)]), [0, 0]);
    }

    #[test]
    fn scaling_in_the_middle_keeps_the_proportions() {
        let set = |wanted, then| Count { wanted, available: 0, allowed_then: Some(then) };
        // Ten, rolling with a surge of 3 (13 allowed): 8 old and 5 new; to fifteen (18 allowed).
        assert_eq!(proportional(15, 3, 13, &[set(8, 13), set(5, 13)]), [11, 7]);
        assert_eq!(proportional(5, 3, 13, &[set(8, 13), set(5, 13)]), [5, 3]);
        assert_eq!(proportional(0, 0, 13, &[set(8, 13), set(5, 13)]), [0, 0]);
    }

    proptest! {
        #[test]
        fn no_step_wants_too_many_or_risks_too_few(
            replicas in 0i64..30, surge in 0i64..10, unavailable in 0i64..10,
            new_wanted in 0i64..30, new_available in 0i64..30, old in prop::collection::vec((0i64..20, 0i64..20), 0..4),
        ) {
            let unavailable = unavailable.min(replicas);
            let new = set(new_wanted, new_available.min(new_wanted));
            let old: Vec<Count> = old.into_iter().map(|(wanted, available)| set(wanted, available.min(wanted))).collect();
            let all = new.wanted + old.iter().map(|set| set.wanted).sum::<i64>();
            let next = new_set(replicas, surge, all, new.wanted);
            prop_assert!(next <= new.wanted || all - new.wanted + next <= replicas + surge);
            prop_assert!(next <= replicas);

            let wanted = old_sets(replicas, unavailable, new, &old);
            let mut stay = new.available;
            for (wanted, set) in wanted.iter().zip(&old) {
                prop_assert!((0..=set.wanted).contains(wanted));
                // What is taken away is first what is not available.
                stay += set.available.min(*wanted);
            }
            let before = new.available + old.iter().map(|set| set.available).sum::<i64>();
            prop_assert!(stay >= before.min(replicas - unavailable), "{stay} of {before} stay");
        }

        #[test]
        fn proportions_add_up(replicas in 1i64..50, surge in 0i64..10, sets in prop::collection::vec(0i64..20, 1..5)) {
            let then: i64 = sets.iter().sum();
            let mut counts: Vec<Count> = sets.iter().map(|&wanted| Count { wanted, available: 0, allowed_then: Some(then) }).collect();
            counts.sort_by_key(|set| std::cmp::Reverse(set.wanted));
            let sizes = proportional(replicas, surge, then, &counts);
            prop_assert!(sizes.iter().all(|size| *size >= 0));
            prop_assert!(sizes.iter().sum::<i64>() <= (replicas + surge).max(then));
        }
    }
}
