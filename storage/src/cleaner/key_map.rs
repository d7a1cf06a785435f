//! The last offset of each key, in a table of fixed size.
//!
//! A key is known by 128 bits: two keyed SipHash values of 64 bits each, of the key behind two
//! different first bytes, under a secret of this map. Two keys that share them would cost the older
//! one its record; with two million keys in the table and 2^31 look-ups the chance is below
//! 2^-75, and who does not know the secret cannot choose such keys. Kafka's table does the same
//! with MD5.
//!
//! One slot takes 20 bytes. The table is allocated at once for as many keys as it can ever meet, at
//! most for the bytes it may have; pages that no key touches take no memory.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::types::Offset;

/// Bytes of one slot.
const SLOT_BYTES: usize = 20;
/// Slots of the smallest table.
const FEWEST: usize = 16;

/// The last offset of each key met.
#[derive(Debug)]
pub(super) struct KeyMap {
    secret: RandomState,
    /// Offsets are kept relative to it.
    base: Offset,
    hashes: Vec<[u64; 2]>,
    /// 1 + offset - base; 0 marks a free slot.
    offsets: Vec<u32>,
    len: usize,
    most: usize,
}

impl KeyMap {
    /// A table for keys of records from `base` on, of which there are at most `span`.
    ///
    /// `load`: share of the slots that may be taken.
    pub(super) fn new(base: Offset, span: u64, bytes: usize, load: f64) -> Self {
        let load = load.clamp(0.1, 0.95);
        let wanted = (span as f64 / load).ceil() as usize;
        let slots = wanted.min(bytes / SLOT_BYTES).max(FEWEST);
        let most = if slots < wanted {
            (slots as f64 * load) as usize
        } else {
            // Rounding must not cost the last key its place.
            usize::try_from(span).unwrap_or(usize::MAX)
        };
        Self {
            secret: RandomState::new(),
            base,
            hashes: vec![[0; 2]; slots],
            offsets: vec![0; slots],
            len: 0,
            most: most.clamp(1, slots - 1),
        }
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Notes that a key was met at `offset`, above all offsets noted before; false when the table
    /// has no room for it.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let relative = offset.distance(self.base).checked_add(1);
        let Some(stored) = relative.and_then(|n| u32::try_from(n).ok()) else {
            return false;
        };
        let hash = self.hash(key);
        let slot = self.find(hash);
        let (Some(held), Some(place)) = (self.offsets.get_mut(slot), self.hashes.get_mut(slot))
        else {
            return false;
        };
        if *held == 0 {
            if self.len >= self.most {
                return false;
            }
            self.len += 1;
            *place = hash;
        }
        *held = stored;
        true
    }

    /// The last offset noted for a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        match self.offsets.get(self.find(self.hash(key))) {
            Some(0) | None => None,
            Some(held) => self.base.checked_add(i64::from(*held) - 1),
        }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|half| {
            let mut hasher = self.secret.build_hasher();
            hasher.write_u8(half);
            hasher.write(key);
            hasher.finish()
        })
    }

    /// The slot of a key, or the free one where it belongs; there is always a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.offsets.len();
        let mut slot = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        while self.offsets.get(slot).is_some_and(|held| *held != 0)
            && self.hashes.get(slot) != Some(&hash)
        {
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Offset {
        Offset::new(offset)
    }

    #[test]
    fn the_last_offset_of_each_key_is_kept() {
        let mut map = KeyMap::new(at(100), 5000, 1 << 20, 0.9);
        for n in 0..5000_i64 {
            assert!(map.put(&(n % 700).to_be_bytes(), at(100 + n)));
        }
        assert_eq!(map.len(), 700);
        for n in 0..700_i64 {
            let last = (0..5000).rev().find(|m| m % 700 == n).unwrap();
            assert_eq!(map.get(&n.to_be_bytes()), Some(at(100 + last)));
        }
        assert_eq!(map.get(b"never"), None);
        assert!(map.put(b"", at(6000)));
        assert_eq!(map.get(b""), Some(at(6000)));
    }

    #[test]
    fn a_table_for_so_many_keys_takes_so_many() {
        for load in [0.1, 0.5, 0.9, 0.95] {
            for span in 1..500 {
                let mut map = KeyMap::new(at(0), span, 1 << 20, load);
                let taken = (0..span as i64)
                    .take_while(|n| map.put(&n.to_be_bytes(), at(*n)))
                    .count();
                assert_eq!(taken as u64, span, "at load {load}");
            }
        }
    }

    #[test]
    fn the_table_is_bounded_and_says_when_it_is_full() {
        let mut map = KeyMap::new(at(0), u64::MAX, 100 * SLOT_BYTES, 0.9);
        let taken = (0..1000_i64)
            .take_while(|n| map.put(&n.to_be_bytes(), at(*n)))
            .count();
        assert_eq!((taken, map.len()), (90, 90));
        assert!(
            map.put(&7_i64.to_be_bytes(), at(2000)),
            "a known key needs no room"
        );
        assert_eq!(map.get(&7_i64.to_be_bytes()), Some(at(2000)));
        assert_eq!(map.get(&500_i64.to_be_bytes()), None);
        assert!(
            !map.put(b"x", at(i64::from(u32::MAX))),
            "out of the map's reach"
        );
        let small = KeyMap::new(at(0), 3, 1 << 30, 0.9);
        assert_eq!(
            small.offsets.len(),
            FEWEST,
            "no larger than it can be of use"
        );
    }
}
