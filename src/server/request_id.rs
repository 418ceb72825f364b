//! The id that ties together what all tiers log about a request.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Carries the id in both directions.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client.
const BYTES_MAX: usize = 128;

/// A request's id, in its extensions and in its answer's `X-Request-Id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Takes the id that an earlier tier has given, or makes one (UUID version 7).
    ///
    /// Only letters, digits, `-`, `_`, `.` and `=`, at most 128 of them, are taken over: ids are written to logs, where
    /// anything else could pass for more than an id. (`=` is in the ids of AWS load balancers.)
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER) {
            Some(given) if is_well_formed(given.as_bytes()) => Self(given.clone()),
            Some(_) | None => {
                let id = Uuid::now_v7().to_string();
                Self(HeaderValue::try_from(id).expect("a UUID is visible ASCII"))
            }
        }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("both kinds of id are visible ASCII")
    }

    pub(super) fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_well_formed(id: &[u8]) -> bool {
    (1..=BYTES_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> RequestId {
        RequestId::of(&[(HEADER, HeaderValue::from_str(given).unwrap())].into_iter().collect())
    }

    #[test]
    fn a_well_formed_id_is_taken_over() {
        assert_eq!(id_for("Root=1-67891233-abc.def_0").as_str(), "Root=1-67891233-abc.def_0");
        let longest = "x".repeat(BYTES_MAX);
        assert_eq!(id_for(&longest).as_str(), longest);
    }

    #[test]
    fn anything_else_gets_an_id_of_ours() {
        for given in ["", "a b", "a\"b", "a,b", &"x".repeat(BYTES_MAX + 1)] {
            assert!(Uuid::parse_str(id_for(given).as_str()).is_ok(), "{given}");
        }
        assert!(Uuid::parse_str(RequestId::of(&HeaderMap::new()).as_str()).is_ok());
    }
}
