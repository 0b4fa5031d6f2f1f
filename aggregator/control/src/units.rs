//! Numbers with units, as people write and read them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An amount of data in bytes, written like `50 GB`, `1.5 TiB` or `20000000`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Why a text is not an amount of data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is not an amount of data; write a number and B, kB, MB, GB or TB, such as '50 GB'")]
pub struct BytesError(String);

/// Decimal units as providers count, and the binary ones for those who insist.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let error = || BytesError(text.to_owned());
        let trimmed = text.trim();
        let split =
            trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // Nine digits after the point are exact for every unit up to giga.
        if whole.is_empty() || fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
            return Err(error());
        }
        let mut amount = whole
            .parse::<u64>()
            .ok()
            .and_then(|whole| whole.checked_mul(*scale))
            .ok_or_else(error)?;
        if !fraction.is_empty() {
            let parts: u64 = fraction.parse().map_err(|_| error())?;
            let divisor = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| error())?);
            let extra = u128::from(parts) * u128::from(*scale) / divisor;
            let extra = u64::try_from(extra).map_err(|_| error())?;
            amount = amount.checked_add(extra).ok_or_else(error)?;
        }
        Ok(Self(amount))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0, &["B", "kB", "MB", "GB", "TB", "PB"]))
    }
}

/// A rate in bits per second, as `48.2 Mbit/s`.
#[must_use]
pub fn bit_rate(bits_per_second: u64) -> String {
    scaled(bits_per_second, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// Three significant digits and a decimal unit.
fn scaled(amount: u64, units: &[&str]) -> String {
    if amount < 1000 {
        return format!("{amount} {}", units[0]);
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = amount as f64;
    let mut unit = 0;
    // 999.5 would be printed as "1000".
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", units[unit])
}

/// A length of time in its two leading units, as `14 s`, `5 min 02 s`, `2 h 03 min` or `3 d 04 h`.
///
/// Negative and unnumbered lengths count as none.
#[must_use]
pub fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Milliseconds with the digits that matter: `0.21 ms`, `23.4 ms`, `312 ms`.
#[must_use]
pub fn milliseconds(ms: f64) -> String {
    let digits = match ms {
        v if v < 0.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{ms:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read() {
        for (text, bytes) in [
            ("50 GB", 50_000_000_000),
            ("50GB", 50_000_000_000),
            (" 50 gb ", 50_000_000_000),
            ("1.5 TiB", 1_649_267_441_664),
            ("0.5k", 500),
            ("20000000", 20_000_000),
            ("0", 0),
            ("7 B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in
            ["", "GB", "50 GBit", "-1 GB", "1.2.3 GB", "1. GB", ".5 GB", "99999999999 TB", "1,5 GB"]
        {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown() {
        assert_eq!(Bytes(999).to_string(), "999 B");
        assert_eq!(Bytes(50_000_000_000).to_string(), "50.0 GB");
        assert_eq!(Bytes(999_600).to_string(), "1.00 MB");
        assert_eq!(bit_rate(0), "0 bit/s");
        assert_eq!(bit_rate(48_234_567), "48.2 Mbit/s");
        assert_eq!(bit_rate(1_200_000_000), "1.20 Gbit/s");
        assert_eq!(bit_rate(785_000), "785 kbit/s");
        assert_eq!(duration(-3.0), "0 s");
        assert_eq!(duration(f64::NAN), "0 s");
        assert_eq!(duration(14.9), "14 s");
        assert_eq!(duration(302.0), "5 min 02 s");
        assert_eq!(duration(7380.0), "2 h 03 min");
        assert_eq!(duration(3.0 * 86400.0 + 4.0 * 3600.0), "3 d 04 h");
        assert_eq!(milliseconds(0.213), "0.21 ms");
        assert_eq!(milliseconds(23.44), "23.4 ms");
        assert_eq!(milliseconds(312.2), "312 ms");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<Bytes>();
        }

        #[test]
        fn plain_numbers_round_trip(n: u64) {
            prop_assert_eq!(n.to_string().parse(), Ok(Bytes(n)));
        }
    }
}
