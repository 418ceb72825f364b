//! Arguments → settings → logging → node or command → exit code. Decides nothing.

use agent::cli::{self, Cli, Command, ModelCommand};
use agent::node::{self, Error, commands, doctor};
use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    cli::conclude(run(&cli))
}

fn run(cli: &Cli) -> Result<(), Error> {
    let raw = cli.gather();
    let settings = || cli.resolve(&raw);
    match &cli.command {
        None => node::run(settings()?),
        Some(Command::Check { value: None }) => commands::check(&settings()?),
        Some(Command::Check { value: Some(key) }) => commands::check_value(&settings()?, key),
        Some(Command::Doctor) => doctor::run(settings()?),
        Some(Command::Migrate) => commands::migrate(settings()?),
        Some(Command::Createsuperuser { account, email, if_missing }) => {
            commands::create_superuser(settings()?, &account.account(&raw), email, *if_missing)
        }
        Some(Command::Changepassword { account }) => {
            commands::change_password(settings()?, &account.account(&raw))
        }
        Some(Command::Clearsessions) => commands::clear_sessions(settings()?),
        Some(Command::Model(ModelCommand::Install { source, sha256, dir })) => {
            commands::install_model(&settings()?, source, sha256.as_deref(), dir.as_deref())
        }
        Some(Command::Version) => commands::version(),
    }
}
