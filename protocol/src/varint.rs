//! Base-128 integers: unsigned in messages, zig-zag in records (records.md §2).

/// Bytes of the longest unsigned 32-bit form.
pub(crate) const MAX_U32: usize = 5;
/// Bytes of the longest unsigned 64-bit form.
pub(crate) const MAX_U64: usize = 10;

/// What [`decode`] found wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VarintError {
    /// The bytes end before the integer does.
    Truncated,
    /// The integer has more than its type's longest form, or bits beyond its type.
    Overflow,
}

/// Reads an integer of at most `bits` (32 or 64) bits: its value and its length in bytes.
#[inline]
pub(crate) fn decode(bytes: &[u8], bits: u32) -> Result<(u64, usize), VarintError> {
    let mut value: u64 = 0;
    let mut shift: u32 = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let group = u64::from(byte & 0x7f);
        let left = bits.saturating_sub(shift);
        if left == 0 || (left < 7 && group >> left != 0) {
            return Err(VarintError::Overflow);
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            return Ok((value, index.saturating_add(1)));
        }
        shift = shift.saturating_add(7);
    }
    // A run of continued bytes as long as the longest form cannot be saved by more bytes.
    if shift >= bits {
        Err(VarintError::Overflow)
    } else {
        Err(VarintError::Truncated)
    }
}

/// Writes the shortest form into `out` and says its length.
#[inline]
pub(crate) fn encode(mut value: u64, out: &mut [u8; MAX_U64]) -> usize {
    let mut length = 0_usize;
    for slot in out.iter_mut() {
        length = length.saturating_add(1);
        let group = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            *slot = group;
            break;
        }
        *slot = group | 0x80;
    }
    length
}

/// Signed to unsigned, small magnitudes first.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_forms_fit_and_longer_ones_do_not() {
        let mut out = [0; MAX_U64];
        for (value, bits, length) in [
            (0, 32, 1),
            (127, 32, 1),
            (128, 32, 2),
            (u64::from(u32::MAX), 32, MAX_U32),
            (u64::MAX, 64, MAX_U64),
        ] {
            let written = encode(value, &mut out);
            assert_eq!(written, length);
            assert_eq!(decode(&out[..written], bits), Ok((value, length)));
            assert_eq!(
                decode(&out[..written - 1], bits),
                Err(VarintError::Truncated)
            );
        }
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff, 0x1f], 32),
            Err(VarintError::Overflow)
        );
        assert_eq!(decode(&[0x80; 5], 32), Err(VarintError::Overflow));
        assert_eq!(decode(&[0x80; 11], 64), Err(VarintError::Overflow));
    }

    #[test]
    fn zigzag_keeps_every_sign() {
        for value in [0, -1, 1, -2, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(zigzag(-1), 1);
    }
}
