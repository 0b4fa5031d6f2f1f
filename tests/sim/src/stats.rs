//! Figures from many readings.

/// The reading that `share` thousandths of all are not above; 0 without readings.
#[must_use]
pub fn quantile(readings: &[u64], share: u64) -> u64 {
    let mut sorted = readings.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as u64 * share).div_ceil(1000).saturating_sub(1) as usize;
    sorted.get(at).copied().unwrap_or(0)
}

/// `part` in thousandths of `whole`.
#[must_use]
pub const fn permille(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (part as u128 * 1000 / whole as u128) as u64 }
}
