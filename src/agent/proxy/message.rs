//! Netlink messages: how their bytes are written and read.
//!
//! Out:      bytes for `netlink.rs`; attributes of what the kernel answers.
//! Never:    reads past the end: what is cut short is not there.
//! Source:   RFC 3549 and the kernel's netlink.h, nfnetlink.h: headers in the machine's byte order, values of netfilter in the network's.

/// Set in a request.
pub const REQUEST: u16 = 0x1;
/// An answer is wanted, if all went well, too.
pub const ACK: u16 = 0x4;
/// All there are.
pub const DUMP: u16 = 0x300;
/// Make it, if it is not there.
pub const CREATE: u16 = 0x400;
/// At the end.
pub const APPEND: u16 = 0x800;
/// What an answer about a request is: an error, or that there was none.
pub const ERROR: u16 = 2;
/// The end of several.
pub const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
/// Of an attribute's kind, what is no flag.
const KIND: u16 = 0x3fff;
const HEADER: usize = 16;
/// The header of netfilter's messages after netlink's.
const FAMILY_HEADER: usize = 4;

/// Bytes that grow.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How much was written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A message of netfilter: `kind` is subsystem and message, `resource` the header's last field.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, body: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - at).unwrap_or(u32::MAX);
        if let Some(slot) = self.bytes.get_mut(at..at + 4) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// What is written already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// An attribute of plain bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |out| out.bytes.extend(value));
    }

    /// A number in the network's order.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A text with its final zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |out| {
            out.bytes.extend(value.as_bytes());
            out.bytes.push(0);
        });
    }

    /// Attributes within one.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend(0u16.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        // Longer ones are not made: `batch.rs` splits them.
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        if let Some(slot) = self.bytes.get_mut(at..at + 2) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
        self.bytes.resize(at + usize::from(length).next_multiple_of(4), 0);
    }
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Subsystem and message.
    pub kind: u16,
    /// Of the request that it answers.
    pub sequence: u32,
    /// After netlink's header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Its attributes, after netfilter's header.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(FAMILY_HEADER..).unwrap_or_default())
    }

    /// Of an answer: the error's number, 0 when there was none.
    #[must_use]
    pub fn error(&self) -> Option<i32> {
        let number = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        (self.kind == ERROR).then(|| number.saturating_neg())
    }
}

/// The messages in what was received.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(self.0.get(..4)?.try_into().ok()?)).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(self.0.get(8..12)?.try_into().ok()?),
            body: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in some bytes: kind and value.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first of a kind.
    #[must_use]
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(other, value)| (other == kind).then_some(value))
    }

    /// The attributes within the first of a kind.
    #[must_use]
    pub fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Attributes)
    }

    /// A number in the network's order.
    #[must_use]
    pub fn number(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & KIND;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Writer::default();
        out.message(0x0a00, CREATE, 7, 2, 0, |out| {
            out.text(1, "abc");
            out.nest(2, |out| out.number(3, 9));
        });
        let bytes = out.into_bytes();
        let message = Messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.sequence, bytes.len()), (0x0a00, 7, 40));
        assert_eq!(message.attributes().find(1), Some(b"abc\0".as_slice()));
        assert_eq!(message.attributes().nested(2).unwrap().number(3), Some(9));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages(&bytes).take(100) {
                let _ = message.error();
                for (_, value) in message.attributes().take(100) {
                    let _ = Attributes(value).take(100).count();
                }
            }
        }
    }
}
