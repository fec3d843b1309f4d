//! The driver in its owner's hand: frames go to it until the end, and the end is dark.

use std::time::Duration;

use super::{Driver, DriverError, Leaving, Light};
use crate::clock::Tick;

/// So long all has to burn until a trouble is another one.
const CALM: Duration = Duration::from_secs(60);

/// A driver that is left once, whatever ends its owner, and shows nothing after that.
pub struct Panel {
    driver: Box<dyn Driver>,
    /// Why LEDs cannot be lit.
    trouble: Option<DriverError>,
    /// The trouble that was said last.
    said: Option<DriverError>,
    /// Since when there is none.
    fine_since: Option<Tick>,
    left: bool,
}

impl Panel {
    /// With this driver.
    #[must_use]
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self { driver, trouble: None, said: None, fine_since: None, left: false }
    }

    /// Shows a frame. An error is given back when it is another one than before: it is said once, until all could be shown for a while.
    pub fn show(&mut self, frame: &[Light], now: Tick) -> Option<&DriverError> {
        if self.left {
            return None;
        }
        let trouble = self.driver.show(frame).err();
        self.note(trouble, now)
    }

    /// Looks what cannot be lit now, between frames. An error is given back as [`Panel::show`] does.
    pub fn look(&mut self, now: Tick) -> Option<&DriverError> {
        let trouble = if self.left { None } else { self.driver.look() };
        self.note(trouble, now)
    }

    fn note(&mut self, trouble: Option<DriverError>, now: Tick) -> Option<&DriverError> {
        self.trouble = trouble;
        if self.trouble.is_none() {
            self.fine_since.get_or_insert(now);
            return None;
        }
        // A bus that fails now and then is one trouble, not one each time.
        let over = self.fine_since.take().is_some_and(|since| now.since(since) >= CALM);
        if self.trouble == self.said && !over {
            return None;
        }
        self.said.clone_from(&self.trouble);
        self.said.as_ref()
    }

    /// Whether any LED burns when it should.
    #[must_use]
    pub fn works(&self) -> bool {
        self.driver.works()
    }

    /// Why LEDs cannot be lit.
    #[must_use]
    pub fn trouble(&self) -> Option<&DriverError> {
        self.trouble.as_ref()
    }

    /// All dark, for good. Does not block.
    pub fn leave(&mut self) -> Leaving {
        if std::mem::replace(&mut self.left, true) { Leaving::default() } else { self.driver.leave() }
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        // A task that dies, or is cut off, leaves no LED burning either. This may be a thread of the runtime: it does not wait.
        drop(self.leave());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What a driver was told: frames, then the end.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Driver for Told {
        fn show(&mut self, frame: &[Light]) -> Result<(), DriverError> {
            self.0.lock().unwrap().push(format!("show {}", frame.len()));
            match frame.len() {
                1 => Ok(()),
                other => Err(DriverError { words: format!("no LED {other}") }),
            }
        }

        fn fault(&self) -> Option<DriverError> {
            let last = told(self).last().cloned()?;
            let count = last.strip_prefix("show ").filter(|count| *count != "1")?;
            Some(DriverError { words: format!("no LED {count}") })
        }

        fn leave(&mut self) -> Leaving {
            self.0.lock().unwrap().push("leave".to_owned());
            let told = self.clone();
            Leaving::by(move || told.0.lock().unwrap().push("dark".to_owned()))
        }
    }

    fn told(told: &Told) -> Vec<String> {
        told.0.lock().unwrap().clone()
    }

    #[test]
    fn nothing_is_shown_after_the_end_and_it_ends_once() {
        let driver = Told::default();
        let mut panel = Panel::new(Box::new(driver.clone()));
        panel.show(&[Light::white(9)], Tick(0));
        let leaving = panel.leave();
        panel.show(&[Light::white(9)], Tick(0));
        panel.leave().wait();
        drop(panel);
        assert_eq!(told(&driver), ["show 1", "leave"], "nobody has waited yet");
        leaving.wait();
        assert_eq!(told(&driver), ["show 1", "leave", "dark"]);
    }

    #[tokio::test]
    async fn a_task_that_is_cut_off_or_dies_leaves_them_dark() {
        for dies in [false, true] {
            let driver = Told::default();
            let mut panel = Panel::new(Box::new(driver.clone()));
            let task = tokio::spawn(async move {
                panel.show(&[Light::white(9)], Tick(0));
                assert!(!dies, "as it should");
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.is_err());
            assert_eq!(told(&driver), ["show 1", "leave"], "dies: {dies}");
        }
    }

    #[test]
    fn a_trouble_is_said_once_until_it_is_another_one_or_over() {
        let mut panel = Panel::new(Box::new(Told::default()));
        // How many LEDs, and when, in seconds.
        let frames = [(1, 0), (2, 1), (2, 2), (3, 3), (1, 4), (3, 5), (1, 6), (1, 60), (3, 66)];
        let mut show = |(count, seconds): (usize, u64)| panel.show(&vec![Light::DARK; count], Tick(seconds * 1000)).is_some();
        let said: Vec<bool> = frames.into_iter().map(&mut show).collect();
        assert_eq!(said, [false, true, false, true, false, false, false, false, true]);
        assert_eq!(panel.look(Tick(66_000)), None, "it was said");
        assert_eq!(panel.trouble().map(ToString::to_string), Some("no LED 3".to_owned()));
    }
}
