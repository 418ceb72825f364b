//! `agent check`: the effective settings, each with its source.

use anyhow::Context;

use super::{Error, say};
use crate::config::{Resolved, definitions};

/// Prints every setting with its value and where that came from. Secrets stay hidden.
///
/// # Errors
/// Standard output cannot be written. Wrong settings never get here: resolving them has failed before.
pub fn check(resolved: &Resolved) -> Result<(), Error> {
    let settings: Vec<(String, String)> = resolved
        .effective
        .iter()
        .map(|setting| {
            let value = setting.shown.as_deref().unwrap_or("(not set)");
            (format!("{} = {value}", setting.key), setting.source.to_string())
        })
        .collect();
    let width = settings.iter().map(|(setting, _)| setting.chars().count()).max().unwrap_or(0).min(60);
    let mut text = String::new();
    for (setting, source) in settings {
        text.push_str(&format!("{setting:<width$}  # {source}\n"));
    }
    text.push_str(&format!("{} settings, no problem", definitions().count()));
    say(&text)
}

/// Prints the value of one setting; a secret stays `<secret>`.
///
/// # Errors
/// There is no such setting, or standard output cannot be written.
pub fn check_value(resolved: &Resolved, key: &str) -> Result<(), Error> {
    let setting = resolved.effective.iter().find(|setting| setting.key == key);
    let setting = setting.with_context(|| format!("{key} is no setting; `agent check` lists them all"))?;
    say(setting.shown.as_deref().unwrap_or_default())
}
