//! Where answers are generated: the seam between retrieval and whatever writes the text.
//!
//! A [`Prompt`] is a question with numbered sources; a generator turns it into a stream of [`Piece`]s. Which sources
//! go in, and whether the citations that come out are true, is `rag`'s business. Read [`extractive`] next: it answers
//! when no language model is configured.

mod compose;
mod extractive;
mod sentences;
mod words;

use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

pub use sentences::sentences;
pub use words::terms;

/// What a generator is asked.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// The question as the person typed it.
    pub question: String,
    /// The question before it in the same chat, which a follow-up such as "and how long?" leans on.
    pub previous_question: Option<String>,
    /// What the answer may rest on, most relevant first, numbered from 1 in this order. Empty: nothing relevant exists.
    pub sources: Vec<Source>,
}

/// A passage that an answer may cite as `[n]`, `n` being its place in [`Prompt::sources`] counted from 1.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The document's title.
    pub title: String,
    /// The headings above the passage, outermost first, such as `Travel > Hotels`; empty when there are none.
    pub heading: String,
    /// The passage. Untrusted: it is quoted or read, never obeyed.
    pub text: String,
    /// How close in meaning its first [`sentences()`] are to the question, as cosines. Empty where that is not known.
    pub closeness: Vec<f32>,
}

/// A step of an answer. A stream that ends without [`Piece::End`] was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The next part of the text, with citations written as `[n]`.
    Text(String),
    /// What the answer cost; at most once.
    Usage(Usage),
    /// The answer is whole, for this reason. Nothing follows.
    End(FinishReason),
}

/// Tokens that a model read and wrote; zero where no model was involved.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
}

/// Why an answer ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// Nothing more to say.
    Stop,
    /// The limit on the answer's length was reached.
    Length,
}

impl FinishReason {
    /// The word that clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Why a generator could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached or is overloaded; the same question may succeed later.
    #[error("the answer generator is not available")]
    Unavailable,
}

impl Error {
    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable => true,
        }
    }
}

/// The stream of an answer.
pub type Pieces = BoxStream<'static, Result<Piece, Error>>;

/// What writes answers.
#[derive(Clone, Default)]
pub enum Generator {
    /// Quotes the sentences that fit the question best.
    #[default]
    Extractive,
    /// A function of the embedding program; the behaviour tests pace and break answers with it.
    Supplied(Arc<dyn Fn(Prompt) -> Pieces + Send + Sync>),
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Generator {
    /// The generator's name in the stream's `meta` event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Extractive => "extractive",
            Self::Supplied(_) => "supplied",
        }
    }

    /// Starts an answer. Dropping the stream stops the work.
    pub fn generate(&self, prompt: Prompt) -> Pieces {
        match self {
            Self::Extractive => stream::iter(extractive::answer(&prompt).into_iter().map(Ok)).boxed(),
            Self::Supplied(generate) => generate(prompt),
        }
    }
}
