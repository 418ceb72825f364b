//! Why an answer did not come to its end, as its reader is told.

use serde_json::json;

/// The data of an `error` event.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    code: &'static str,
    detail: &'static str,
    retryable: bool,
}

impl Failure {
    /// The node that wrote it stopped or died, or the generator broke off.
    pub const INTERRUPTED: Self = Self {
        code: "interrupted",
        detail: "The answer was interrupted. What was written so far is kept.",
        retryable: true,
    };
    /// Something that answers need was away.
    pub const UNAVAILABLE: Self = Self {
        code: "unavailable",
        detail: "The answer could not be written because a service was not available.",
        retryable: true,
    };
    /// The generator said nothing.
    pub const EMPTY: Self =
        Self { code: "empty_answer", detail: "The answer generator returned no text.", retryable: true };
    /// A defect of ours.
    pub const INTERNAL: Self =
        Self { code: "internal", detail: "The answer could not be written.", retryable: false };

    /// Returns the failure that an ended answer's status stands for, if it is one.
    pub fn of_status(status: &str) -> Option<Self> {
        match status {
            "interrupted" => Some(Self::INTERRUPTED),
            "failed" => Some(Self::UNAVAILABLE),
            _ => None,
        }
    }

    /// Returns the event's data, one line of JSON.
    pub fn data(self) -> String {
        json!({ "code": self.code, "detail": self.detail, "retryable": self.retryable }).to_string()
    }
}
