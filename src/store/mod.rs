//! Postgres, original files, and the private cluster: the only folder that knows SQL.
//!
//! [`Store`] hands out pooled [`Client`]s; each table has one file of SQL whose functions take a client and, where a
//! user's data is touched, one of the types of [`access`]. A client is never held across anything but the database:
//! the pool is small, and answers, embeddings and uploads take seconds.

pub mod access;
pub mod blob_removals;
pub mod blobs;
pub mod chats;
pub mod chunks;
pub mod client;
pub mod cluster;
pub mod collections;
pub mod documents;
pub mod embedding_model;
mod error;
pub mod generations;
pub mod ids;
pub mod index_log;
pub mod invitations;
pub mod jobs;
pub mod journal;
pub mod login_attempts;
pub mod members;
pub mod messages;
pub mod migrate;
pub mod nodes;
pub mod page;
pub mod passages;
pub mod sessions;
mod tls;
pub mod tokens;
pub mod users;
mod vector;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

pub use client::{Client, Transaction};
pub use error::Error;

use crate::telemetry::metrics;

/// How to reach Postgres and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Options {
    /// A `postgres://` URL or a key=value connection string; never logged.
    pub url: String,
    /// PEM file with the authorities that may sign the server's certificate; TLS is required when it is set. Where
    /// the URL asks for TLS without it, the system's authorities count.
    pub ca_file: Option<PathBuf>,
    /// Connections at most.
    pub pool_max: usize,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How long a request waits for a free connection.
    pub acquire_timeout: Duration,
    /// How long one statement may run.
    pub statement_timeout: Duration,
    /// Connections are replaced at this age (minus up to a tenth, so that they do not all go at once).
    pub connection_age_max: Duration,
    /// How long sent data may stay unacknowledged by a silent server.
    pub tcp_user_timeout: Duration,
}

/// What can be wrong with [`Options`] before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The connection string does not parse. The text is kept out of the message: it may hold a password.
    #[error("database_url is not a postgres:// URL or connection string")]
    Url,
    /// The certificate file cannot be used.
    #[error("cannot use database_ca_file {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The URL asks for TLS, and neither a file nor the system names an authority to trust.
    #[error(
        "database_url asks for TLS and this system trusts no authority; set database_ca_file to a PEM file"
    )]
    NoAuthority(#[source] std::io::Error),
}

/// A handle to the database. Clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    primary: Pool,
    statement_timeout: Duration,
    options: Arc<Options>,
}

impl Store {
    /// Prepares a pool; connects only when a client is first asked for.
    ///
    /// # Errors
    /// [`OptionsError`]: the options cannot work whatever the network does.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let manager = manager(&options)?;
        let age_max = options.connection_age_max;
        let primary = Pool::builder(manager)
            .max_size(options.pool_max)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(options.acquire_timeout),
                create: Some(options.connect_timeout),
                recycle: Some(options.connect_timeout),
            })
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                // Connections made in the same burst must not all be replaced in the same instant.
                let jitter =
                    age_max.mul_f64(f64::from(metrics.created.elapsed().subsec_nanos() % 100) / 1000.0);
                if metrics.age() > age_max.saturating_sub(jitter) {
                    return Err(HookError::message("connection has reached its maximum age"));
                }
                Ok(())
            }))
            .build()
            .expect("a runtime is given, which is all that building can miss");
        Ok(Self { primary, statement_timeout: options.statement_timeout, options: Arc::new(options) })
    }

    /// Returns a client of the primary, waiting at most the acquire timeout.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: no connection could be had in time.
    pub async fn primary(&self) -> Result<Client, Error> {
        let object = self.primary.get().await.map_err(|error| {
            metrics::DATABASE_UNAVAILABLE.add(1);
            Error::from_pool(error)
        })?;
        Ok(Client::new(object, self.statement_timeout))
    }

    /// Asks the primary for a sign of life.
    ///
    /// # Errors
    /// It gives none in time.
    pub async fn ping(&self) -> Result<(), Error> {
        self.primary().await?.query_one("select 1", &[]).await.map(drop)
    }

    /// Connections in use and connections open, for the metrics.
    pub fn pool_usage(&self) -> (usize, usize) {
        let status = self.primary.status();
        (status.size.saturating_sub(status.available), status.size)
    }

    /// Closes the pool: clients in use finish, new ones are refused.
    pub fn close(&self) {
        self.primary.close();
    }

    /// Returns the options that the store was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

fn manager(options: &Options) -> Result<Manager, OptionsError> {
    // The driver knows neither of libpq's verifying modes; ours always verifies, so `require` says the same.
    let url = options
        .url
        .replace("sslmode=verify-full", "sslmode=require")
        .replace("sslmode=verify-ca", "sslmode=require");
    let mut config: tokio_postgres::Config = url.parse().map_err(|_| OptionsError::Url)?;
    config
        .application_name("agent")
        .connect_timeout(options.connect_timeout)
        .tcp_user_timeout(options.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite)
        .options(format!(
            "-c statement_timeout={0} -c idle_in_transaction_session_timeout={0} -c lock_timeout={0} \
             -c timezone=UTC -c jit=off",
            options.statement_timeout.as_millis()
        ));
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let connector = match &options.ca_file {
        Some(path) => {
            tls::trusting_file(path).map_err(|source| OptionsError::CaFile { path: path.clone(), source })?
        }
        None if config.get_ssl_mode() == SslMode::Require => {
            tls::trusting_system().map_err(OptionsError::NoAuthority)?
        }
        None => return Ok(Manager::from_config(config, NoTls, recycling)),
    };
    config.ssl_mode(SslMode::Require);
    Ok(Manager::from_config(config, connector, recycling))
}
