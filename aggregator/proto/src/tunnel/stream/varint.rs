//! Variable-length integers (RFC 9000 §16): the first two bits tell the length.

/// The greatest value that fits: 2^62 − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes.
#[must_use]
pub const fn size(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends `value`; what exceeds [`MAX`] is cut to it.
pub fn put(out: &mut Vec<u8>, value: u64) {
    let value = if value > MAX { MAX } else { value };
    match size(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Takes a value from the front of `bytes`; `None` if it is cut short.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let more = (1 << (first >> 6)) - 1;
    let (tail, rest) = rest.split_at_checked(more)?;
    let start = u64::from(first & 0x3f);
    *bytes = rest;
    Some(tail.iter().fold(start, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_of_rfc_9000_a_1() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(take(&mut &*bytes), Some(value));
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(size(value), bytes.len());
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take(&mut &[0x40, 0x25][..]), Some(37), "longer than it need be");
    }
}
