//! Timestamps as DRF writes them.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A moment in UTC: `2026-01-02T03:04:05.123456Z`, without a fraction on the full second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Time(pub Timestamp);

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let microseconds = self.0.subsec_nanosecond() / 1000;
        let precision = if microseconds == 0 { 0 } else { 6 };
        write!(formatter, "{:.precision$}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_has_six_digits_or_is_left_out() {
        let text = |text: &str| Time(text.parse().unwrap()).to_string();
        assert_eq!(text("2026-01-02T03:04:05.1234567Z"), "2026-01-02T03:04:05.123456Z");
        assert_eq!(text("2026-01-02T03:04:05.5Z"), "2026-01-02T03:04:05.500000Z");
        assert_eq!(text("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05Z");
    }
}
