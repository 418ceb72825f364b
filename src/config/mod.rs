//! Typed settings: what they are, where they come from, and what is wrong with them.
//!
//! Two stages: [`raw`] gathers text (flags, environment, files) and decides nothing; [`Settings::resolve`] turns it
//! into types once, collects every problem on the way, and keeps the source of each value for `agent check`.
//! To add a setting, add one entry in `settings.rs` and its row in `docs/configuration.md` (a test compares them).

mod definition;
mod names;
mod network;
mod problem;
pub mod raw;
mod resolve;
mod rules;
mod settings;
mod value;
mod vocabulary;

pub use definition::{DefaultValue, Definition};
pub use network::{Cidr, Origin};
pub use problem::{Problem, Problems};
pub use resolve::{Effective, Resolved, Surroundings};
pub use rules::{CLOSE_RESERVE, STOP_TIMEOUT};
pub use settings::{
    Chat, Drain, Ingest, Model, Password, Server, Settings, Throttle, Upload, definitions, environment_name,
};
pub use value::{ByteSize, Value};
pub use vocabulary::{BlobDirectory, DatabaseKind, Profile, Registration, Role, Secret};
