//! The table of settings. One entry is the field, its type, its default, its range and what `agent check` and
//! `docs/configuration.md` say about it. Order matters where a default is derived: it sees the entries above it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::definition::DefaultValue::{ByProfile, Derived, Same, Unset};
use super::definition::{Definition, settings};
use super::network::{Cidr, Origin};
use super::resolve::Reader;
use super::value::ByteSize;
use super::vocabulary::{BlobDirectory, DatabaseKind, Profile, Registration, Role, Secret};

/// State of a deployed node, and of one that root starts by hand: Postgres runs as another user and must reach it.
const STATE_DIRECTORY: &str = "/var/lib/agent";
/// Where packages and images put the embedding model.
const BAKED_MODEL_DIRECTORY: &str = "/usr/share/agent/model";
/// In profile `local` the operations listener has the traffic listener's port plus this.
const OPS_PORT_OFFSET: u16 = 1000;

settings! {
    /// Everything that can be set.
    Settings, "";
    /// What this node does. Only app is in this version.
    role: Role = Same("auto");
    /// The set of defaults: local for one machine, aws for a deployment.
    profile: Profile = Derived { description: "`local`; `aws` where the role is auto", compute: default_profile };
    /// Directory of the node's state.
    data_dir: PathBuf = Derived {
        description: "`$XDG_DATA_HOME/agent/<role>` (as root `/var/lib/agent/<role>`); aws `/var/lib/agent`",
        compute: default_data_dir,
    };
    /// Least severe log events that are written.
    log_level: log::LevelFilter = Same("info");
    /// Address of the API.
    listen: SocketAddr = ByProfile { local: "127.0.0.1:8000", aws: "0.0.0.0:8000" };
    /// Address of health and metrics, for this machine only.
    ops_listen: SocketAddr = Derived {
        description: "loopback, port of `listen` + 1000; aws `127.0.0.1:9600`",
        compute: default_ops_listen,
    };
    /// Address of health and metrics for the fleet; off keeps it closed.
    peer_listen: Option<SocketAddr> = ByProfile { local: "off", aws: "0.0.0.0:9601" };
    /// Origins under which people reach the API: allowed Origin headers, Secure cookies, absolute links.
    /// Empty means the listener's own address.
    public_urls: Vec<Origin> = Unset;
    /// Networks whose X-Forwarded-For is believed.
    trusted_proxies: Vec<Cidr> = Same("127.0.0.0/8,::1/128");
    /// Directory of uploaded originals, a path or file:// URL.
    blobs: BlobDirectory = Derived { description: "`blobs` in `data_dir`; aws must set it", compute: default_blobs };
    /// Who may make an account.
    registration: Registration = ByProfile { local: "open", aws: "closed" };
    /// How long a login lasts.
    session_age: Duration = Same("14d"), "1m" to "365d";
    /// URL of the Postgres server: `postgres://user:password@host/name?sslmode=verify-full`.
    database_url: Option<Secret> = Unset;
    /// Whose Postgres holds the data: private is the agent's own, made from the installed binaries in `data_dir`.
    database: DatabaseKind = Derived {
        description: "`url` where `database_url` is set, else `private`; aws `url`",
        compute: default_database,
    };
    /// PEM file with the authorities that may sign the database server's certificate; with it, TLS is required.
    /// Without it, a URL that asks for TLS trusts the system's.
    database_ca_file: Option<PathBuf> = Unset;
    /// Most connections to the database.
    database_pool_max: usize = Same("16"), "2" to "500";
    /// Longest wait for a new connection to the database.
    database_connect_timeout: Duration = Same("2s"), "100ms" to "1m";
    /// Longest wait for a free connection of the pool.
    database_acquire_timeout: Duration = Same("2s"), "100ms" to "1m";
    /// Longest run of one statement for a request.
    database_statement_timeout: Duration = Same("5s"), "100ms" to "10m";
    /// Longest run of one statement of ingestion.
    database_ingest_timeout: Duration = Same("60s"), "1s" to "1h";
    /// Age at which a connection is replaced, so that a failover's new addresses are found.
    database_connection_age_max: Duration = Same("10m"), "1s" to "1d";
    /// Longest time that sent data may stay unacknowledged before a connection counts as dead.
    database_tcp_user_timeout: Duration = Same("5s"), "1s" to "5m";
    /// Directory of initdb and postgres; off searches the usual places.
    postgres_bin_dir: Option<PathBuf> = Unset;
    sections {
        /// Limits and timers of the traffic listener.
        server: Server;
        /// Phases of an orderly stop.
        drain: Drain;
        /// The embedding model.
        model: Model;
        /// Limits of uploads.
        upload: Upload;
        /// Request rates.
        throttle: Throttle;
        /// Password hashing.
        password: Password;
        /// Turning documents into searchable passages.
        ingest: Ingest;
        /// Questions and answers.
        chat: Chat;
    }
}

settings! {
    /// Limits and timers of the traffic listener.
    Server, "server.";
    /// Closes a kept connection on which nothing was asked for this long. Longer than a load balancer's 60s.
    idle_timeout: Duration = Same("75s"), "1s" to "1h";
    /// Longest time from the first byte of a request's head to its last.
    head_timeout: Duration = Same("10s"), "100ms" to "10m";
    /// Longest pause between two parts of a request's body.
    body_timeout: Duration = Same("30s"), "100ms" to "10m";
    /// Longest time that a client may accept no byte of an answer.
    write_timeout: Duration = Same("60s"), "1s" to "1h";
    /// Most open connections; more wait in the kernel's queue.
    connections_max: usize = Same("10000"), "1" to "1000000";
    /// Largest head of a request.
    head_bytes_max: ByteSize = Same("64KiB"), "8KiB" to "1MiB";
    /// Certificate chain in PEM; with `server.tls_key_file` the API is served over TLS.
    tls_cert_file: Option<PathBuf> = Unset;
    /// Private key in PEM.
    tls_key_file: Option<PathBuf> = Unset;
    /// Most TLS handshakes at a time.
    tls_handshakes_max: usize = Same("200"), "1" to "100000";
    /// Longest TLS handshake.
    tls_handshake_timeout: Duration = Same("10s"), "100ms" to "1m";
}

settings! {
    /// Phases of an orderly stop. Together they leave the database time to close before the unit's stop timeout.
    Drain, "drain.";
    /// How long the node goes on serving after it says that it is not ready, for load balancers to notice.
    balancer_wait: Duration = ByProfile { local: "0s", aws: "15s" }, "0s" to "1m";
    /// Longest wait for requests and answers in flight.
    deadline: Duration = Same("40s"), "0s" to "1m";
}

impl Drain {
    /// Returns the longest time that the phases take together.
    pub fn total(&self) -> Duration {
        self.balancer_wait + self.deadline
    }
}

settings! {
    /// The embedding model.
    Model, "model.";
    /// Directory that `agent model install` fills. Without a model, search is by words only.
    dir: PathBuf = Derived {
        description: "`model` in `data_dir`; aws, or where only that one exists, `/usr/share/agent/model`",
        compute: default_model_dir,
    };
    /// Threads that compute embeddings.
    threads: usize = Derived { description: "the number of cores", compute: |_| Some(cores().to_string()) }, "1" to "256";
}

settings! {
    /// Limits of uploads.
    Upload, "upload.";
    /// Largest uploaded file.
    bytes_max: ByteSize = Same("100MiB"), "1KiB" to "10GiB";
    /// Largest text file.
    text_bytes_max: ByteSize = Same("20MiB"), "1KiB" to "1GiB";
    /// Uploads that a person may make at once.
    burst: u32 = Same("200"), "1" to "1000000";
    /// Uploads that a person may make in a day.
    per_day: u32 = Same("2000"), "1" to "100000000";
    /// Uploads that a node takes at a time, at most a quarter of them, and at least one, from one person.
    concurrent_max: usize = Same("64"), "1" to "10000";
}

settings! {
    /// Request rates.
    Throttle, "throttle.";
    /// Whether requests, uploads and logins are throttled at all.
    enabled: bool = Same("true");
    /// Requests a minute from one address that is not logged in.
    anonymous_per_minute: u32 = Same("60"), "1" to "1000000";
    /// Requests a minute of one person.
    user_per_minute: u32 = Same("600"), "1" to "1000000";
    /// Login attempts a minute for one account and address.
    login_per_minute: u32 = Same("5"), "1" to "1000000";
    /// Questions a minute of one person.
    chat_per_minute: u32 = Same("20"), "1" to "1000000";
}

settings! {
    /// Password hashing.
    Password, "password.";
    /// Threads that hash passwords; each needs 19 MiB while it hashes.
    hashing_threads: usize = Derived {
        description: "half the number of cores, at least 1",
        compute: |_| Some((cores() / 2).max(1).to_string()),
    }, "1" to "64";
    /// Most logins that wait for a hashing thread; more are answered 503.
    hashing_queue_max: usize = Same("32"), "1" to "10000";
}

settings! {
    /// Turning documents into searchable passages.
    Ingest, "ingest.";
    /// Documents that are worked on at a time. With two or more, the last free worker is kept for those who have none.
    workers: usize = Same("3"), "1" to "64";
    /// How long a node that went silent keeps a document before another takes it.
    lease: Duration = Same("30s"), "3s" to "10m";
    /// Times that a document is tried before it fails.
    attempts_max: u32 = Same("3"), "1" to "100";
}

settings! {
    /// Questions and answers.
    Chat, "chat.";
    /// Longest question, in characters.
    question_chars_max: usize = Same("8000"), "100" to "100000";
    /// How long a node that went silent keeps an answer before it counts as interrupted.
    answer_lease: Duration = Same("10s"), "3s" to "5m";
    /// How long an answer may take from search to last word; then it is interrupted.
    answer_time_max: Duration = Same("5m"), "1s" to "1h";
}

/// Returns the rows of the table, in its order.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    let sections = [
        Settings::DEFINITIONS,
        Server::DEFINITIONS,
        Drain::DEFINITIONS,
        Model::DEFINITIONS,
        Upload::DEFINITIONS,
        Throttle::DEFINITIONS,
        Password::DEFINITIONS,
        Ingest::DEFINITIONS,
        Chat::DEFINITIONS,
    ];
    sections.into_iter().flatten()
}

/// Returns the environment variable of a setting: `server.idle_timeout` is `AGENT_SERVER_IDLE_TIMEOUT`.
pub fn environment_name(key: &str) -> String {
    format!("AGENT_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn default_profile(reader: &Reader<'_>) -> Option<String> {
    Some(if reader.text("role") == Some("auto") { "aws" } else { "local" }.to_owned())
}

fn default_data_dir(reader: &Reader<'_>) -> Option<String> {
    if reader.profile() == Profile::Aws {
        return Some(STATE_DIRECTORY.to_owned());
    }
    let role = reader.text("role")?;
    let base = match (reader.variable("XDG_DATA_HOME"), reader.variable("HOME")) {
        (Some(data_home), _) => format!("{data_home}/agent"),
        (None, _) if nix::unistd::geteuid().is_root() => STATE_DIRECTORY.to_owned(),
        (None, home) => format!("{}/.local/share/agent", home?),
    };
    Some(format!("{base}/{role}"))
}

fn default_ops_listen(reader: &Reader<'_>) -> Option<String> {
    if reader.profile() == Profile::Aws {
        return Some("127.0.0.1:9600".to_owned());
    }
    let listen: SocketAddr = reader.text("listen")?.parse().ok()?;
    let port = if listen.port() == 0 { 0 } else { listen.port().checked_add(OPS_PORT_OFFSET)? };
    Some(format!("127.0.0.1:{port}"))
}

fn default_database(reader: &Reader<'_>) -> Option<String> {
    let private = reader.profile() == Profile::Local && reader.text("database_url").is_none();
    Some(if private { "private" } else { "url" }.to_owned())
}

fn default_blobs(reader: &Reader<'_>) -> Option<String> {
    let data_dir = reader.text("data_dir").filter(|_| reader.profile() == Profile::Local)?;
    Some(format!("{data_dir}/blobs"))
}

fn default_model_dir(reader: &Reader<'_>) -> Option<String> {
    let own = format!("{}/model", reader.text("data_dir")?);
    let baked = Path::new(BAKED_MODEL_DIRECTORY);
    let use_baked = reader.profile() == Profile::Aws || (baked.exists() && !Path::new(&own).exists());
    Some(if use_baked { BAKED_MODEL_DIRECTORY.to_owned() } else { own })
}
