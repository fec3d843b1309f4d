//! The driver in its owner's hand: frames go to it until the end, and the end is dark.

use super::{Driver, DriverError, Light};

/// A driver that is left once, whatever ends its owner, and shows nothing after that.
pub struct Panel {
    driver: Box<dyn Driver>,
    /// Why LEDs cannot be lit, as it was said.
    trouble: Option<DriverError>,
    left: bool,
}

impl Panel {
    /// With this driver.
    #[must_use]
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self { driver, trouble: None, left: false }
    }

    /// Shows a frame. An error is given back when it is another one than before: it is said once, until all can be shown again.
    pub fn show(&mut self, frame: &[Light]) -> Option<&DriverError> {
        if self.left {
            return None;
        }
        let trouble = self.driver.show(frame).err();
        self.note(trouble)
    }

    /// Looks what cannot be lit now, between frames. An error is given back as [`Panel::show`] does.
    pub fn look(&mut self) -> Option<&DriverError> {
        let trouble = if self.left { None } else { self.driver.fault() };
        self.note(trouble)
    }

    fn note(&mut self, trouble: Option<DriverError>) -> Option<&DriverError> {
        let before = std::mem::replace(&mut self.trouble, trouble);
        self.trouble.as_ref().filter(|error| before.as_ref() != Some(error))
    }

    /// Why LEDs cannot be lit.
    #[must_use]
    pub fn trouble(&self) -> Option<&DriverError> {
        self.trouble.as_ref()
    }

    /// All dark, for good.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.driver.leave();
        }
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        // A task that dies, or is cut off, leaves no LED burning either.
        self.leave();
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

        fn leave(&mut self) {
            self.0.lock().unwrap().push("leave".to_owned());
        }
    }

    fn told(told: &Told) -> Vec<String> {
        told.0.lock().unwrap().clone()
    }

    #[test]
    fn nothing_is_shown_after_the_end_and_it_ends_once() {
        let driver = Told::default();
        let mut panel = Panel::new(Box::new(driver.clone()));
        panel.show(&[Light::white(9)]);
        panel.leave();
        panel.show(&[Light::white(9)]);
        panel.leave();
        drop(panel);
        assert_eq!(told(&driver), ["show 1", "leave"]);
    }

    #[tokio::test]
    async fn a_task_that_is_cut_off_or_dies_leaves_them_dark() {
        for dies in [false, true] {
            let driver = Told::default();
            let mut panel = Panel::new(Box::new(driver.clone()));
            let task = tokio::spawn(async move {
                panel.show(&[Light::white(9)]);
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
        let frames = [1, 2, 2, 3, 1, 3];
        let said: Vec<bool> = frames.iter().map(|count| panel.show(&vec![Light::DARK; *count]).is_some()).collect();
        assert_eq!(said, [false, true, false, true, false, true]);
        assert_eq!(panel.look(), None, "it was said");
        assert_eq!(panel.trouble().map(ToString::to_string), Some("no LED 3".to_owned()));
    }
}
