//! Calls as frames with credit, so that a slow terminal cannot fill memory: the sender sends only what it has credit for, the
//! receiver gives credit as it passes bytes on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::call::CallError;
use super::message::{End, SCHEMA, StreamFrame};

/// Data bytes in one frame; as base64 that stays far below the message limit.
pub const FRAME_BYTES: usize = 24 * 1024;
/// Credit at the start, and the most that is under way.
pub const WINDOW: u64 = 256 * 1024;

/// The node's end: counts frames and credit.
#[derive(Debug)]
pub struct FrameSender {
    sequence: u64,
    credit: u64,
}

impl FrameSender {
    /// With what the request allows.
    #[must_use]
    pub fn new(credit: u64) -> Self {
        Self { sequence: 0, credit }
    }

    /// Takes more credit.
    pub fn add_credit(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes).min(WINDOW * 4);
    }

    /// Whether anything may be sent.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.credit > 0
    }

    /// Cuts the next frame off `data`; `None` without credit or data.
    pub fn frame(&mut self, data: &mut Bytes) -> Option<StreamFrame> {
        let size = data.len().min(FRAME_BYTES).min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        if size == 0 {
            return None;
        }
        // A frame costs at least 256 bytes, so that credit bounds their number too.
        self.credit = self.credit.saturating_sub((size as u64).max(256));
        let piece = data.split_to(size);
        Some(self.next(STANDARD.encode(piece), None))
    }

    /// The last frame.
    pub fn end(&mut self, end: End) -> StreamFrame {
        self.next(String::new(), Some(end))
    }

    fn next(&mut self, data: String, end: Option<End>) -> StreamFrame {
        let frame = StreamFrame { v: SCHEMA, sequence: self.sequence, data, end };
        self.sequence += 1;
        frame
    }
}

/// What the master's end makes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Data, and whether it was the last.
    Data(Bytes, bool),
    /// The call ended in an error.
    Error(CallError),
    /// A frame that was there already.
    Again,
}

/// The master's end: checks that no frame is missing.
#[derive(Debug, Default)]
pub struct FrameReceiver {
    next: u64,
}

impl FrameReceiver {
    /// Takes a frame.
    pub fn take(&mut self, frame: StreamFrame) -> Received {
        if frame.sequence < self.next {
            return Received::Again;
        }
        if frame.sequence > self.next {
            return Received::Error(CallError::Failed("a part of the answer was lost on the way; ask again".to_owned()));
        }
        self.next += 1;
        match (STANDARD.decode(&frame.data), frame.end) {
            (Err(_), _) => Received::Error(CallError::Failed("a part of the answer was not understood; ask again".to_owned())),
            (_, Some(End::Error(error))) => Received::Error(error),
            (Ok(data), end) => Received::Data(Bytes::from(data), end.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_without_credit_and_all_arrives_in_order() {
        let mut sender = FrameSender::new(10);
        let mut receiver = FrameReceiver::default();
        let mut data = Bytes::from_static(b"a log of more than ten bytes");
        let first = sender.frame(&mut data).unwrap();
        assert!(sender.frame(&mut data).is_none() && !sender.may_send());
        sender.add_credit(WINDOW);
        let second = sender.frame(&mut data).unwrap();
        assert_eq!(receiver.take(first.clone()), Received::Data(Bytes::from_static(b"a log of m"), false));
        assert_eq!(receiver.take(first), Received::Again);
        assert_eq!(receiver.take(second), Received::Data(Bytes::from_static(b"ore than ten bytes"), false));
        assert_eq!(receiver.take(sender.end(End::Done)), Received::Data(Bytes::new(), true));
    }

    #[test]
    fn a_gap_ends_the_call() {
        let mut sender = FrameSender::new(WINDOW);
        let mut data = Bytes::from(vec![b'x'; FRAME_BYTES + 1]);
        let _lost = sender.frame(&mut data).unwrap();
        let frame = sender.frame(&mut data).unwrap();
        assert!(matches!(FrameReceiver::default().take(frame), Received::Error(CallError::Failed(_))));
    }
}
