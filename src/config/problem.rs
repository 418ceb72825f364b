//! What is wrong with the settings. All of it is reported at once, and values are never repeated: one may be a secret.

use std::fmt;

use super::raw::Source;

/// One thing that is wrong, with the place to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, or the file, that it is about.
    pub subject: String,
    /// Where the value came from, when it came from somewhere.
    pub source: Option<Source>,
    /// What must be done, for example `must be true or false`.
    pub message: String,
}

impl Problem {
    /// Makes a problem that is not about one given value.
    pub fn new(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), source: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.subject)?;
        if let Some(source) = &self.source {
            write!(formatter, " ({source})")?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Every problem found, in the order of the settings. One line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
