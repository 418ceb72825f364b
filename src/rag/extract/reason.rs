//! Why a document failed: the enumerated list that clients see (`docs/api.md`).

use std::fmt;

/// Why a document could not be made searchable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No text: no bytes, or nothing but white space and markup.
    Empty,
    /// A known kind of file that is not text: PDF, image, archive, program.
    UnsupportedType,
    /// Bytes that are no text in any encoding.
    NotText,
    /// Text whose encoding could not be told without losing characters.
    Undecodable,
    /// A file larger than its kind may be.
    TooLarge,
    /// Nested deeper than is followed.
    TooDeep,
    /// More text than one document may have.
    TextTooLong,
    /// More passages than one document may have.
    TooManyPassages,
    /// Extraction took longer than its deadline.
    TooSlow,
    /// The original is no longer in the object store.
    StorageLost,
    /// The model gave no vectors for the text.
    EmbeddingFailed,
    /// Every attempt ended without a result, as when the file takes the process down.
    Crashed,
}

impl Reason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Empty,
        Self::UnsupportedType,
        Self::NotText,
        Self::Undecodable,
        Self::TooLarge,
        Self::TooDeep,
        Self::TextTooLong,
        Self::TooManyPassages,
        Self::TooSlow,
        Self::StorageLost,
        Self::EmbeddingFailed,
        Self::Crashed,
    ];

    /// The stable code that clients and the database see.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::UnsupportedType => "unsupported_type",
            Self::NotText => "not_text",
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TextTooLong => "text_too_long",
            Self::TooManyPassages => "too_many_passages",
            Self::TooSlow => "too_slow",
            Self::StorageLost => "storage_lost",
            Self::EmbeddingFailed => "embedding_failed",
            Self::Crashed => "crashed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Reason {}
