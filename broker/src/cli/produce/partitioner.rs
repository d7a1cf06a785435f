//! Which partition a record goes to, as Java's default partitioner decides.

/// The partition of a key, among `count`.
pub(super) fn of_key(key: &[u8], count: usize) -> usize {
    // The sign bit is dropped: Java's absolute value of the smallest number would be negative.
    let positive = murmur2(key) & 0x7fff_ffff;
    usize::try_from(positive).unwrap_or_default() % count.max(1)
}

/// The 32-bit hash of Austin Appleby, with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // Lengths are Java's int.
    let length = u32::try_from(data.len() & 0xffff_ffff).unwrap_or_default();
    let mut hash = 0x9747_b28c ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = word
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that Kafka's own test of its hash pins.
    #[test]
    fn the_hash_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for number in 0..1000_u32 {
            assert!(of_key(&number.to_be_bytes(), 7) < 7);
        }
        assert_eq!(of_key(b"", 1), 0);
    }
}
