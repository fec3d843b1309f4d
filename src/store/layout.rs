//! The files of the embedded journal: their names, and which of them are needed.
//!
//! ```text
//! id                     the store's id; made last: when it is there, there was a store
//! lock                   held by the process that uses it
//! log-0000000001 …       changes; log N+1 is begun before log N is ended
//! checkpoint-0000000004  everything before log 4: starting is reading it, then logs 4, 5, …
//! *.new                  unfinished, to be forgotten
//! ```

/// The name of the file that holds the store's id.
pub const ID: &str = "id";
/// What an unfinished file's name ends in.
pub const UNFINISHED: &str = ".new";

/// The name of a log.
#[must_use]
pub fn log(sequence: u64) -> String {
    format!("log-{sequence:010}")
}

/// The name of a checkpoint.
#[must_use]
pub fn checkpoint(sequence: u64) -> String {
    format!("checkpoint-{sequence:010}")
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Whether there was a store.
    pub id: bool,
    /// The logs' numbers, rising.
    pub logs: Vec<u64>,
    /// The checkpoints' numbers, rising.
    pub checkpoints: Vec<u64>,
    /// Names of files that were never finished.
    pub unfinished: Vec<String>,
}

impl Layout {
    /// Reads a directory's names; what is not ours is left alone.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        let mut layout = Self::default();
        for name in names {
            let numbered = |prefix: &str| {
                let digits = name.strip_prefix(prefix)?;
                digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
            };
            if name == ID {
                layout.id = true;
            } else if let Some(sequence) = numbered("log-") {
                layout.logs.push(sequence);
            } else if let Some(sequence) = numbered("checkpoint-") {
                layout.checkpoints.push(sequence);
            } else if name.ends_with(UNFINISHED) {
                let ours = [ID, "checkpoint-"].iter().any(|prefix| name.starts_with(prefix));
                if ours {
                    layout.unfinished.push(name.clone());
                }
            }
        }
        layout.logs.sort_unstable();
        layout.checkpoints.sort_unstable();
        layout
    }

    /// The newest checkpoint, and the one before it.
    #[must_use]
    pub fn newest_checkpoints(&self) -> (Option<u64>, Option<u64>) {
        let mut newest = self.checkpoints.iter().rev().copied();
        (newest.next(), newest.next())
    }

    /// The names that no start needs any more, now or from the checkpoint before the newest.
    #[must_use]
    pub fn obsolete(&self) -> Vec<String> {
        let (_, Some(kept)) = self.newest_checkpoints() else { return Vec::new() };
        let logs = self.logs.iter().filter(|&&sequence| sequence < kept).map(|&sequence| log(sequence));
        let checkpoints = self.checkpoints.iter().filter(|&&sequence| sequence < kept).map(|&sequence| checkpoint(sequence));
        logs.chain(checkpoints).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Layout {
        Layout::of(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_left_alone() {
        let (log, checkpoint) = (log(12), checkpoint(3));
        let layout = names(&[&log, &checkpoint, "id", "id.new", "notes.new", "log-", "log-x", "log-0000000012.bak", "lock"]);
        let unfinished = vec!["id.new".to_owned()];
        assert_eq!(layout, Layout { id: true, logs: vec![12], checkpoints: vec![3], unfinished });
    }

    #[test]
    fn the_checkpoint_before_the_newest_is_kept_with_its_logs() {
        let (logs, checkpoints): (Vec<_>, Vec<_>) = ((1..=9).map(log).collect(), [2, 5, 8].map(checkpoint).to_vec());
        let all: Vec<&str> = logs.iter().chain(&checkpoints).map(String::as_str).collect();
        let mut obsolete = names(&all).obsolete();
        obsolete.sort();
        assert_eq!(obsolete, [checkpoint(2), log(1), log(2), log(3), log(4)]);
        assert!(names(&["log-0000000001", "checkpoint-0000000002", "log-0000000002"]).obsolete().is_empty());
    }
}
