//! Reads LuCI's compiled translations, as its web server does: by the hash of what was written.

/// The translation of a message, if there is one.
///
/// # Panics
/// If the file is not in order.
pub(crate) fn lookup(lmo: &[u8], message: &[u8]) -> Option<String> {
    let word = |at: usize| u32::from_be_bytes(lmo[at..at + 4].try_into().unwrap());
    let index = word(lmo.len() - 4) as usize;
    let entries: Vec<usize> = (index..lmo.len() - 4).step_by(16).collect();
    assert!(entries.is_sorted_by_key(|at| word(*at)), "LuCI searches by halves");
    let found = entries.into_iter().find(|at| word(*at) == hash(message))?;
    let (offset, length) = (word(found + 8) as usize, word(found + 12) as usize);
    Some(String::from_utf8(lmo[offset..offset + length].to_vec()).unwrap())
}

/// Paul Hsieh's SuperFastHash, with the last odd byte signed as LuCI has it.
#[expect(clippy::cast_sign_loss, reason = "the sign is spread on purpose")]
fn hash(data: &[u8]) -> u32 {
    let pair = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let signed = |byte: u8| i32::from(byte.cast_signed()) as u32;
    let mut hash = u32::try_from(data.len()).unwrap();
    let mut blocks = data.chunks_exact(4);
    for block in &mut blocks {
        hash = hash.wrapping_add(pair(block));
        hash = (hash << 16) ^ (pair(&block[2..]) << 11) ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    match blocks.remainder() {
        [first, second, third] => {
            hash = hash.wrapping_add(pair(&[*first, *second]));
            hash ^= hash << 16;
            hash ^= signed(*third) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [first, second] => {
            hash = hash.wrapping_add(pair(&[*first, *second]));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [only] => {
            hash = hash.wrapping_add(signed(*only));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    for (left, right) in [(3, 5), (4, 17), (25, 6)] {
        hash ^= hash << left;
        hash = hash.wrapping_add(hash >> right);
    }
    hash
}
