//! Text to typed values and back: durations and sizes with units, counts, switches, paths, lists.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting can have.
pub trait Value: Sized {
    /// What a value looks like, completing the sentence "must be …".
    const RULE: &'static str;
    /// Whether values are never shown.
    const SECRET: bool = false;

    /// Reads a value from `text`, or returns `None` when it does not follow [`Self::RULE`].
    fn parse(text: &str) -> Option<Self>;

    /// The value of a setting that nothing sets; `None` where a value is needed.
    fn unset() -> Option<Self> {
        None
    }

    /// Where the value stands among others of its type, for the range check.
    fn order(&self) -> Option<u128> {
        None
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes as a length in memory; saturates where a pointer is narrower.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u128); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// `min` and `m` are the same unit: systemd and Postgres write the former, most others the latter.
const DURATION_UNITS_MS: [(&str, u128); 6] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        let (unit, factor) = SIZE_UNITS
            .into_iter()
            .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(formatter, "{}{unit}", bytes / factor)
    }
}

/// Splits `text` into a whole number and one of `units`, and multiplies. A bare `0` needs no unit.
/// Fractions, signs, spaces and results above `u64` are refused.
fn quantity(text: &str, units: &[(&str, u128)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = number.parse().ok()?;
    u64::try_from(u128::from(number) * factor).ok()
}

impl Value for Duration {
    const RULE: &'static str = "a whole number with a unit (ms, s, m, h, d), such as 75s";

    fn parse(text: &str) -> Option<Self> {
        quantity(text, &DURATION_UNITS_MS).map(Self::from_millis)
    }

    fn order(&self) -> Option<u128> {
        Some(self.as_millis())
    }
}

impl Value for ByteSize {
    const RULE: &'static str = "a whole number with a unit (B, KiB, MiB, GiB, TiB), such as 64MiB";

    fn parse(text: &str) -> Option<Self> {
        quantity(text, &SIZE_UNITS).map(Self)
    }

    fn order(&self) -> Option<u128> {
        Some(u128::from(self.0))
    }
}

impl Value for bool {
    const RULE: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for u32 {
    const RULE: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn order(&self) -> Option<u128> {
        Some(u128::from(*self))
    }
}

impl Value for usize {
    const RULE: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn order(&self) -> Option<u128> {
        u128::try_from(*self).ok()
    }
}

impl Value for PathBuf {
    const RULE: &'static str = "a path";

    /// Relative paths count from the working directory of the process.
    fn parse(text: &str) -> Option<Self> {
        std::path::absolute(text).ok()
    }
}

impl Value for SocketAddr {
    const RULE: &'static str = "an IP address and a port, such as 127.0.0.1:8000";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A setting that may be absent. `off` takes a value away that a lower source gave.
impl<T: Value> Value for Option<T> {
    const RULE: &'static str = T::RULE;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Option<Self> {
        if text == "off" { Some(None) } else { T::parse(text).map(Some) }
    }

    fn unset() -> Option<Self> {
        Some(None)
    }

    fn order(&self) -> Option<u128> {
        self.as_ref().and_then(T::order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_unless_it_is_zero() {
        assert_eq!(Duration::parse("0"), Some(Duration::ZERO));
        assert_eq!(Duration::parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(Duration::parse("10min"), Duration::parse("10m"));
        assert_eq!(Duration::parse("14d"), Some(Duration::from_secs(1_209_600)));
        for bad in
            ["", "5", "1.5s", "5 s", "-5s", "s", "5sec", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(Duration::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_size_needs_a_binary_unit_and_prints_in_the_largest_exact_one() {
        assert_eq!(ByteSize::parse("64KiB"), Some(ByteSize(65_536)));
        assert_eq!(ByteSize::parse("64MB"), None);
        assert_eq!(ByteSize::parse("64"), None);
        assert_eq!(ByteSize::parse("16777215TiB"), Some(ByteSize(16_777_215 << 40)));
        assert_eq!(ByteSize::parse("16777216TiB"), None);
        for text in ["100MiB", "1KiB", "1025B", "0B"] {
            assert_eq!(ByteSize::parse(text).map(|size| size.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn off_takes_an_optional_value_away() {
        assert_eq!(Option::<u32>::parse("off"), Some(None));
        assert_eq!(Option::<u32>::parse("7"), Some(Some(7)));
        assert_eq!(Option::<u32>::parse("seven"), None);
    }
}
