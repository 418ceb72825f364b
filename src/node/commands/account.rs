//! `agent createsuperuser` and `agent changepassword`.

use super::{Error, password, say, with_store};
use crate::app::accounts;
use crate::config::{Resolved, Secret};
use crate::store::migrate;

/// Whose account, and where its password comes from; asked for on the terminal where neither says.
#[derive(Clone, Debug)]
pub struct Account {
    /// Name to log in with.
    pub username: String,
    /// Whether standard input has the password.
    pub from_stdin: bool,
    /// The password that the environment has.
    pub from_environment: Option<Secret>,
}

impl Account {
    fn password(&self) -> anyhow::Result<String> {
        match (&self.from_environment, self.from_stdin) {
            (_, true) => password::from_stdin(),
            (Some(password), false) => Ok(password.expose().to_owned()),
            (None, false) => password::from_terminal(&self.username),
        }
    }
}

/// Makes an account that administers the service. A taken username is fine with `if_missing`: nothing changes then.
///
/// # Errors
/// Name, address or password break the rules, the name is taken, or the database is away.
pub fn create_superuser(
    resolved: Resolved,
    account: &Account,
    email: &str,
    if_missing: bool,
) -> Result<(), Error> {
    let password = account.password()?;
    with_store(&resolved, async |store| {
        migrate::migrate(&store).await?;
        match accounts::create_superuser(&store, &account.username, email, &password).await {
            Ok(user) => say(&format!("created {}, who administers the service", user.username)),
            Err(accounts::Error::UsernameTaken) if if_missing => {
                say(&format!("nothing to do: {} exists", account.username))
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Gives an account a new password and ends its sessions.
///
/// # Errors
/// There is no such account, the password breaks the rules, or the database is away.
pub fn change_password(resolved: Resolved, account: &Account) -> Result<(), Error> {
    let password = account.password()?;
    with_store(&resolved, async |store| {
        migrate::migrate(&store).await?;
        accounts::change_password(&store, &account.username, &password).await?;
        say(&format!("changed the password of {}; its sessions have ended", account.username))
    })
}
