//! Chance, from a seed, split by purpose.
//!
//! One more draw for one purpose (ids, jitter, ties) does not move the others, so golden files stay put.

use std::hash::{BuildHasher, Hasher};

/// A generator for one purpose. Not for keys or secrets: those come from `ring`.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The generator for `purpose` under `seed`: equal arguments, equal draws.
    #[must_use]
    pub fn seeded(seed: u64, purpose: &str) -> Self {
        // FNV-1a: stable over versions, unlike std's hashers.
        let mixed = purpose
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(fastrand::Rng::with_seed(mixed))
    }

    /// The generator for `purpose`, seeded by the operating system.
    #[must_use]
    pub fn from_os(purpose: &str) -> Self {
        // std's hasher keys come from the operating system.
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self::seeded(seed, purpose)
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.usize(..bound) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// `length` characters of the alphabet that Kubernetes uses for generated names: no vowels, no look-alikes.
    pub fn name_suffix(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length).filter_map(|_| ALPHABET.get(self.below(ALPHABET.len())).map(|&byte| char::from(byte))).collect()
    }

    /// A random UUID, version 4 (RFC 9562).
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.bits(), self.bits());
        let high = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_draw_alike_and_purposes_do_not_touch() {
        let (mut a, mut b, mut other) = (Rng::seeded(1, "ids"), Rng::seeded(1, "ids"), Rng::seeded(1, "ties"));
        assert_eq!(a.uuid(), b.uuid());
        assert_ne!(a.uuid(), other.uuid());
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let uuid = Rng::seeded(3, "ids").uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }
}
