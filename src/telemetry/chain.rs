//! An error with its causes on one line, for the log.

use std::error::Error;
use std::fmt;

/// Shows an error and what caused it, outermost first, separated by `: `.
pub struct Chain<'a>(&'a (dyn Error + 'static));

/// Wraps `error` for the log: `log::warn!(error:% = chain(&error); "cannot …")`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
