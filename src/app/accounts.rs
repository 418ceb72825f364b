//! Accounts for people with a shell on the machine: what `createsuperuser`, `changepassword` and `clearsessions` do.

use super::account_rules::{check_email, check_password, check_username, normalize_username};
use super::passwords;
use crate::store::users::{self, CreateError, NewUser, User};
use crate::store::{self, Store, login_attempts, sessions};

/// Name of the collection that everyone starts with.
pub const FIRST_COLLECTION: &str = "My documents";

/// Why a command changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name, address or password breaks the rules that these sentences state.
    #[error("{}", .0.join(" "))]
    Invalid(Vec<&'static str>),
    /// Another account has the name.
    #[error("a user with that username already exists")]
    UsernameTaken,
    /// No account has the name.
    #[error("no user has that username")]
    UnknownUser,
    /// The database failed.
    #[error("cannot change accounts")]
    Store(#[from] store::Error),
}

/// Makes an account that administers the service. Hashes on this thread, which takes some 50 ms.
///
/// # Errors
/// See [`Error`].
pub async fn create_superuser(
    store: &Store,
    username: &str,
    email: &str,
    password: &str,
) -> Result<User, Error> {
    let username = &normalize_username(username);
    let mut wrong: Vec<&'static str> = check_username(username).into_iter().collect();
    if username.is_empty() {
        wrong.push("The username may not be blank.");
    }
    if !email.is_empty() {
        wrong.extend(check_email(email));
    }
    wrong.extend(check_password(password, username, email));
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let password_hash = &passwords::hash(password);
    let collection = FIRST_COLLECTION;
    let user = NewUser { username, email, password_hash, is_staff: true, collection };
    let mut client = store.primary().await?;
    users::create(&mut client, &user, None).await.map_err(|error| match error {
        CreateError::UsernameTaken => Error::UsernameTaken,
        CreateError::Invitation => unreachable!("no invitation was given"),
        CreateError::Store(error) => Error::Store(error),
    })
}

/// Gives a user another password and ends all their sessions.
///
/// # Errors
/// See [`Error`].
pub async fn change_password(store: &Store, username: &str, password: &str) -> Result<(), Error> {
    let mut client = store.primary().await?;
    let found = users::credentials(&client, &normalize_username(username)).await?;
    let user = found.ok_or(Error::UnknownUser)?.user;
    let wrong = check_password(password, &user.username, &user.email);
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let changed = users::set_password(&mut client, user.id, None, &passwords::hash(password)).await?;
    if changed { Ok(()) } else { Err(Error::UnknownUser) }
}

/// Deletes expired sessions and login attempts that count no more. Returns how many sessions.
///
/// # Errors
/// See [`store::Error`].
pub async fn clear_sessions(store: &Store) -> Result<u64, store::Error> {
    let client = store.primary().await?;
    login_attempts::clear_old(&client).await?;
    sessions::clear_expired(&client).await
}
