//! Which encryption this machine does fast.

use std::time::{Duration, Instant};

use wanbond_proto::crypto::aead::{AeadKey, Suite};
use wanbond_proto::crypto::kdf;

const RECORD: usize = 16 * 1024;
const BUDGET: Duration = Duration::from_millis(2);

/// The suites, fastest on this machine first, and how many bytes a second they seal: measured, since
/// neither CPU flags nor the architecture tell what the library makes of them. Takes some 5 ms.
#[must_use]
pub fn fast_suites() -> Vec<(Suite, u64)> {
    let mut measured = Suite::ALL.map(|suite| (suite, bytes_per_second(suite)));
    measured.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    measured.to_vec()
}

fn bytes_per_second(suite: Suite) -> u64 {
    let key = AeadKey::derive(suite, &kdf::prk(&[0; 32]), &[b"measure"]);
    let mut data = vec![0; RECORD];
    let _ = key.seal(0, &[], &mut data);
    let start = Instant::now();
    let mut records = 0;
    while start.elapsed() < BUDGET {
        records += 1;
        let _ = key.seal(records, &[], &mut data);
    }
    let bytes = records * RECORD as u64;
    bytes * 1_000_000 / u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}
