//! Whether a dead container is started again, and when.
//!
//! The first restart comes at once, the next after 1 s, then doubling to 60 s; ten minutes of running forgive everything
//! (DESIGN §8). Source: the kubelet's CrashLoopBackOff, which begins at 10 s and ends at 5 min: too slow to watch an LED by.
//!
//! How often it was restarted in a row stands on the container itself, as a label, so that the back-off outlives the agent.

use std::time::Duration;

use crate::agent::runtime::{ObservedContainer, RunState};
use crate::backoff::Policy;
use crate::clock::{Now, Tick};

use super::spec::RestartPolicy;

/// How delays grow.
pub const BACKOFF: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Running so long forgives earlier ends.
pub const FORGIVEN: Duration = Duration::from_secs(600);

/// Which run of a container this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Runs before this one: the restart count.
    pub attempt: u32,
    /// Of these, how many since it last ran for ten minutes.
    pub streak: u32,
}

/// Whether a container that ended with `exit_code` is started again.
#[must_use]
pub fn again(policy: RestartPolicy, exit_code: i64) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// How long a dead container stays dead before its next turn.
#[must_use]
pub fn delay(dead: &ObservedContainer) -> Duration {
    if forgiven(dead) { Duration::ZERO } else { BACKOFF.delay(dead.streak) }
}

/// The turn after this container's.
#[must_use]
pub fn next_turn(dead: &ObservedContainer) -> Turn {
    let streak = if forgiven(dead) { 0 } else { dead.streak };
    Turn { attempt: dead.attempt.saturating_add(1), streak: streak.saturating_add(1) }
}

/// The tick of the next turn, reckoned when the death is first seen. What has passed since by the wall is taken off, so
/// that an agent's restart does not begin the wait anew; a wall that jumped makes it longer by no more than the delay.
#[must_use]
pub fn due(dead: &ObservedContainer, now: Now) -> Tick {
    let RunState::Exited { finished, .. } = dead.state else { return now.tick };
    now.tick.after(delay(dead).saturating_sub(now.wall.since(finished)))
}

fn forgiven(dead: &ObservedContainer) -> bool {
    match dead.state {
        RunState::Exited { started, finished, .. } => finished.since(started) >= FORGIVEN,
        RunState::Created | RunState::Running { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    fn dead(streak: u32, ran_seconds: i64) -> ObservedContainer {
        let state = RunState::Exited {
            started: Wall(1_000_000),
            finished: Wall(1_000_000 + ran_seconds * 1000),
            exit_code: 1,
            oom: false,
            error: None,
        };
        ObservedContainer { attempt: streak, streak, state, ..ObservedContainer::default() }
    }

    #[test]
    fn at_once_then_one_second_doubling_to_sixty_and_forgiven_after_ten_minutes() {
        let seconds: Vec<u64> = (0..9).map(|streak| delay(&dead(streak, 5)).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(&dead(8, 599)), Duration::from_secs(60));
        assert_eq!(delay(&dead(8, 600)), Duration::ZERO);
        assert_eq!(next_turn(&dead(8, 600)), Turn { attempt: 9, streak: 1 });
        assert_eq!(next_turn(&dead(8, 5)), Turn { attempt: 9, streak: 9 });
    }

    #[test]
    fn an_agents_restart_goes_on_waiting_where_it_was() {
        let dead = dead(4, 0);
        for (wall_after, left) in [(0, 8000), (3000, 5000), (60_000, 0), (-60_000, 8000)] {
            let now = Now { tick: Tick(77), wall: Wall(1_000_000 + wall_after) };
            assert_eq!(due(&dead, now), Tick(77 + left), "{wall_after}");
        }
    }

    #[test]
    fn the_policy_decides_by_the_exit_code() {
        for (policy, code, restarts) in [
            (RestartPolicy::Always, 0, true),
            (RestartPolicy::OnFailure, 0, false),
            (RestartPolicy::OnFailure, 3, true),
            (RestartPolicy::Never, 3, false),
        ] {
            assert_eq!(again(policy, code), restarts, "{policy:?} {code}");
        }
    }
}
