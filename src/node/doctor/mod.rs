//! `agent doctor`: what works on this machine, and the remedy for what does not.
//!
//! Looks and touches nothing: no cluster is made, no schema changed. Every check reports, whatever the others found.
//!
//! * [`machine`]: user, processor, open files, clock
//! * [`places`]: data directory, free space, ports
//! * [`services`]: PostgreSQL's programs, the database, the running node, the embedding model

mod machine;
mod places;
mod services;

use std::io::{IsTerminal, Write};

use anyhow::Context;

use super::{Error, commands};
use crate::config::Resolved;
use crate::process::Spawner;

/// How one thing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It works.
    Ok,
    /// The node runs without it, with less.
    Warn,
    /// The node cannot run.
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    subject: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do; empty where nothing needs to be done.
    remedy: String,
}

impl Finding {
    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Ok, text: text.into(), remedy: String::new() }
    }

    fn warn(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Warn, text: text.into(), remedy: remedy.into() }
    }

    fn fail(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Fail, text: text.into(), remedy: remedy.into() }
    }
}

/// Prints what every check found.
///
/// # Errors
/// [`Error::Unhealthy`] where something fails that the node needs.
pub fn run(resolved: Resolved) -> Result<(), Error> {
    let findings = commands::runtime()?.block_on(async {
        let spawner = Spawner::start().context("cannot start the thread that starts children")?;
        anyhow::Ok(examine(&resolved, &spawner).await)
    })?;
    let color = std::io::stdout().is_terminal();
    // A reader that has gone away wants no more; the exit code still tells.
    let _ = std::io::stdout().write_all(report(&findings, color).as_bytes());
    let is_healthy = findings.iter().all(|finding| finding.verdict != Verdict::Fail);
    if is_healthy { Ok(()) } else { Err(Error::Unhealthy) }
}

async fn examine(resolved: &Resolved, spawner: &Spawner) -> Vec<Finding> {
    let settings = &resolved.settings;
    let mut findings = vec![
        machine::user(settings),
        machine::processor(),
        machine::open_files(settings),
        machine::clock(),
        places::data_dir(&settings.data_dir),
        places::free_space(settings),
    ];
    findings.extend(places::ports(settings));
    findings.extend(services::programs(resolved, spawner).await);
    findings.extend(services::database(resolved, spawner).await);
    findings.extend(services::node(settings).await);
    findings.push(services::model(settings).await);
    findings
}

/// Writes a line for each finding, and its remedy below.
fn report(findings: &[Finding], color: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, paint) = match finding.verdict {
            Verdict::Ok => ("ok", "\x1b[32m"),
            Verdict::Warn => ("warn", "\x1b[33m"),
            Verdict::Fail => ("fail", "\x1b[31m"),
        };
        let (paint, plain) = if color { (paint, "\x1b[0m") } else { ("", "") };
        text += &format!("{paint}{word:<5}{plain} {:<11} {}\n", finding.subject, finding.text);
        if !finding.remedy.is_empty() {
            text += &format!("{:<17} → {}\n", "", finding.remedy);
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let summary = match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => "everything works".to_owned(),
        (0, warned) => format!("the node can run; {warned} of {} could be better", findings.len()),
        (failed, _) => format!("the node cannot run: {failed} of {} must be mended", findings.len()),
    };
    text + &format!("\n{summary}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_the_remedy_below_the_finding() {
        let findings = [Finding::ok("user", "ada"), Finding::warn("model", "there is none", "install one")];
        let expected = "ok    user        ada\n\
                        warn  model       there is none\n\
                        \x20                 → install one\n\
                        \nthe node can run; 1 of 2 could be better\n";
        assert_eq!(report(&findings, false), expected);
    }
}
