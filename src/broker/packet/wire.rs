//! The few data types that MQTT packets are made of.
//!
//! Never:    reads behind the end: each read says what was missing.

use bytes::{BufMut, Bytes, BytesMut};

use super::DecodeError;

/// The largest number that a variable byte integer holds.
pub(super) const VARINT_MAX: u32 = 268_435_455;

/// The rest of a packet that is being read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(DecodeError::Malformed("it ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Malformed("it ends too early"))?;
        self.0 = tail;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A packet identifier: never 0.
    pub fn id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::Protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        match varint(self.0)? {
            Some((value, length)) => self.take(length).map(|_| value),
            None => Err(DecodeError::Malformed("it ends too early")),
        }
    }

    pub fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u16()?;
        // Copied, so that a small message that is kept does not hold a whole read buffer.
        self.take(length.into()).map(Bytes::copy_from_slice)
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.u16()?;
        let text = std::str::from_utf8(self.take(length.into())?).map_err(|_| DecodeError::Malformed("text is not UTF-8"))?;
        if text.contains('\0') {
            return Err(DecodeError::Malformed("text holds U+0000"));
        }
        Ok(text)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Reads a variable byte integer: its value and its length, or nothing when bytes are still missing.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(DecodeError::Malformed("a length of more than four bytes")) } else { Ok(None) }
}

pub(super) fn put_varint(out: &mut BytesMut, value: usize) {
    let mut value = value.min(VARINT_MAX as usize);
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0x7f);
        value >>= 7;
        if value == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

/// Longer data than fits is cut at 65,535 bytes; all that we send was read with that limit, or is checked before.
pub(super) fn put_binary(out: &mut BytesMut, data: &[u8]) {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(data.get(..usize::from(length)).unwrap_or(data));
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    put_binary(out, text.as_bytes());
}
