//! Quantities as people write them in scenario files and on the command line:
//! `"8.41 Mbit/s"`, `"20 ms"`, `"0.3 %"`, `"64 KiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantity that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct UnitError {
    text: String,
    wanted: &'static str,
}

/// A rate in bit/s, counted over IP packets (headers of IP and above, nothing below).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// So many bit/s, at least one.
    #[must_use]
    pub const fn from_bits_per_second(bits: u64) -> Self {
        Self(if bits == 0 { 1 } else { bits })
    }

    /// In bit/s.
    #[must_use]
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// In Mbit/s.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    pub fn mbit(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Whole bytes that pass in `time`.
    #[must_use]
    pub fn bytes_in(self, time: Duration) -> u64 {
        let bits = u128::from(self.0) * time.as_nanos() / 1_000_000_000;
        u64::try_from(bits / 8).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Mbit/s", trim(self.mbit()))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { text: text.into(), wanted: "a rate such as \"8.41 Mbit/s\"" };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let factor = match unit {
            "bit/s" | "bit" => 1.0,
            "kbit/s" | "kbit" => 1e3,
            "Mbit/s" | "Mbit" | "mbit" => 1e6,
            "Gbit/s" | "Gbit" | "gbit" => 1e9,
            _ => return Err(wrong()),
        };
        let bits = (number * factor).round();
        if (1.0..1e15).contains(&bits) { Ok(Self(whole(bits))) } else { Err(wrong()) }
    }
}

/// A probability or share: 0 to 1, written as `0.003` or `"0.3 %"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Fraction(f64);

impl Fraction {
    /// Never.
    pub const ZERO: Self = Self(0.0);

    /// This much, if it lies in 0 to 1.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// Always.
    #[must_use]
    pub const fn one() -> Self {
        Self(1.0)
    }

    /// 0.0 to 1.0.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Fraction {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong =
            || UnitError { text: text.into(), wanted: "a share such as \"0.3 %\" or 0.003" };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let value = match unit {
            "" => number,
            "%" => number / 100.0,
            _ => return Err(wrong()),
        };
        Self::new(value).ok_or_else(wrong)
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", trim(self.0 * 100.0))
    }
}

/// Reads a time such as `20 ms`, `1.5 s` or `250us`.
///
/// # Errors
/// When it is none.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError { text: text.into(), wanted: "a time such as \"20 ms\"" };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "min" => 60e9,
        _ => return Err(wrong()),
    };
    let nanos = (number * factor).round();
    if (0.0..1e17).contains(&nanos) { Ok(Duration::from_nanos(whole(nanos))) } else { Err(wrong()) }
}

/// Reads a number of bytes such as `1500 B`, `64 KiB`, `20 MB`.
///
/// # Errors
/// When it is none.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let wrong =
        || UnitError { text: text.into(), wanted: "a size such as \"64 KiB\" or \"20 MB\"" };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "B" | "" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = (number * factor).round();
    if (0.0..1e15).contains(&bytes) { Ok(whole(bytes)) } else { Err(wrong()) }
}

/// A time as text that [`parse_duration`] reads.
#[must_use]
pub fn format_duration(time: Duration) -> String {
    if time >= Duration::from_secs(1) {
        format!("{} s", trim(time.as_secs_f64()))
    } else {
        format!("{} ms", trim(time.as_secs_f64() * 1e3))
    }
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "callers check range")]
const fn whole(value: f64) -> u64 {
    value as u64
}

fn trim(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

serde_as_text!(Rate);
serde_as_text!(Fraction);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse(),
            Either::Number(n) => {
                Self::new(n).ok_or(UnitError { text: n.to_string(), wanted: "a share from 0 to 1" })
            }
        }
        .map_err(serde::de::Error::custom)
    }
}

/// For `#[serde(with = "duration")]`: a [`Duration`] as text.
pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer, format_duration, parse_duration};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// For `#[serde(with = "optional_duration")]`: a [`Duration`] as text, or nothing.
pub(crate) mod optional_duration {
    use super::{Deserialize, Deserializer, Duration, Serializer, format_duration, parse_duration};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(v: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match v {
            Some(time) => s.serialize_some(&format_duration(*time)),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| parse_duration(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// For `#[serde(with = "duration_or_bytes")]`: the queue's bound, a time or a size.
pub(crate) mod duration_or_bytes {
    use super::{
        Deserialize, Deserializer, Serializer, format_duration, parse_bytes, parse_duration,
    };
    use crate::emulator::QueueLimit;

    pub(crate) fn serialize<S: Serializer>(value: &QueueLimit, s: S) -> Result<S::Ok, S::Error> {
        match value {
            QueueLimit::Time(time) => s.serialize_str(&format_duration(*time)),
            QueueLimit::Bytes(bytes) => s.collect_str(&format_args!("{bytes} B")),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<QueueLimit, D::Error> {
        let text = String::deserialize(d)?;
        parse_duration(&text)
            .map(QueueLimit::Time)
            .or_else(|_| parse_bytes(&text).map(QueueLimit::Bytes))
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_s_spellings_are_read() {
        assert_eq!("8.41 Mbit/s".parse(), Ok(Rate(8_410_000)));
        assert_eq!("785kbit".parse(), Ok(Rate(785_000)));
        assert_eq!("0.3 %".parse(), Ok(Fraction(0.003)));
        assert_eq!(parse_duration("20 ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_bytes("64 KiB"), Ok(65_536));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "fast", "8 Mbyte", "-1 Mbit/s", "0 bit/s", "1e99 Gbit/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
        for text in ["20", "-20 ms", "soon"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        assert!("101 %".parse::<Fraction>().is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["8.41 Mbit/s", "0.785 Mbit/s", "1000 Mbit/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!(format_duration(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(Fraction(0.003).to_string(), "0.3 %");
    }
}
