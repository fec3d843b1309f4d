//! The last lines of a log that an engine gives more of than it was asked for.
//!
//! In:       the log, piece by piece; a piece ends where a line does, or in the middle of one.
//! Out:      its last lines. What it keeps is bounded by the log, which is capped.

use std::collections::VecDeque;

use bytes::Bytes;

/// Keeps the last lines.
#[derive(Debug)]
pub struct Tail {
    most: usize,
    /// The pieces of each line.
    lines: VecDeque<Vec<Bytes>>,
    /// The last line goes on.
    open: bool,
}

impl Tail {
    /// Of so many lines.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, lines: VecDeque::new(), open: false }
    }

    /// The next piece.
    pub fn push(&mut self, mut piece: Bytes) {
        while !piece.is_empty() {
            let end = piece.iter().position(|byte| *byte == b'\n');
            let part = piece.split_to(end.map_or(piece.len(), |end| end + 1));
            match self.lines.back_mut().filter(|_| self.open) {
                Some(line) => line.push(part),
                None => self.lines.push_back(vec![part]),
            }
            self.open = end.is_none();
            while self.lines.len() > self.most {
                self.lines.pop_front();
            }
        }
    }

    /// What is left of it.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        self.lines.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_however_they_came() {
        for (pieces, most, left) in [
            (vec!["a\n", "b\n", "c\n"], 2, "b\nc\n"),
            (vec!["a\nb\nc\n"], 2, "b\nc\n"),
            (vec!["a\n", "b", "c\n", "d"], 2, "bc\nd"),
            (vec!["a\n"], 3, "a\n"),
            (vec!["a\n", "b"], 0, ""),
            (vec![], 1, ""),
        ] {
            let mut tail = Tail::new(most);
            for piece in &pieces {
                tail.push(Bytes::from_static(piece.as_bytes()));
            }
            let found: Vec<u8> = tail.into_pieces().flatten().collect();
            assert_eq!(String::from_utf8_lossy(&found), left, "{pieces:?}");
        }
    }
}
