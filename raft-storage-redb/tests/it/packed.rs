//! Files that are mostly repetitions, made small enough to be kept: pairs of a repeated byte
//! (`count u32, byte`) and bytes as they are (`count u32, bytes`), little-endian.

/// Shorter repetitions are not worth a pair.
const REPEATED_MIN: usize = 16;

pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(byte) = rest.first() {
        let repeated = rest.iter().take_while(|next| *next == byte).count();
        let (_, tail) = rest.split_at(repeated);
        let same = |window: &[u8]| window.iter().all(|next| *next == window[0]);
        let plain = tail.windows(REPEATED_MIN).position(same).unwrap_or(tail.len());
        out.extend_from_slice(&(repeated as u32).to_le_bytes());
        out.push(*byte);
        out.extend_from_slice(&(plain as u32).to_le_bytes());
        out.extend_from_slice(&tail[..plain]);
        rest = &tail[plain..];
    }
    out
}

pub(crate) fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = packed;
    while let Some((front, tail)) = rest.split_first_chunk::<9>() {
        let count = |at: usize| u32::from_le_bytes(front[at..at + 4].try_into().unwrap()) as usize;
        out.resize(out.len() + count(0), front[4]);
        let (plain, tail) = tail.split_at(count(5));
        out.extend_from_slice(plain);
        rest = tail;
    }
    assert!(rest.is_empty(), "it was not cut short");
    out
}
