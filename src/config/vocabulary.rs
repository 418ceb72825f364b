//! The words that settings are made of: roles, profiles, secrets and other closed sets.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value::Value;

/// Declares an enum whose variants are the words that a setting accepts.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident, $rule:literal; $( $(#[doc = $help:literal])+ $variant:ident = $word:literal; )+) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $help])+ $variant, )+ }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $( Self::$variant => $word, )+ })
            }
        }

        impl Value for $name {
            const RULE: &'static str = $rule;

            fn parse(text: &str) -> Option<Self> {
                match text { $( $word => Some(Self::$variant), )+ _ => None }
            }
        }
    };
}

words! {
    /// What a node does in the deployment.
    Role, "web, app, health or auto";
    /// Serves people: pages, static files, the proxy to the app tier.
    Web = "web";
    /// Serves the REST API, retrieval and answers.
    App = "app";
    /// Watches the fleet.
    Health = "health";
    /// Asks the instance's tags.
    Auto = "auto";
}

words! {
    /// A set of defaults: a laptop's, or a deployment's.
    Profile, "local or aws";
    /// Everything on this machine, no AWS call at all.
    Local = "local";
    /// A node of a deployment: nothing disposable, nothing guessed.
    Aws = "aws";
}

words! {
    /// Whose Postgres holds the data.
    DatabaseKind, "private or url";
    /// The agent's own cluster in the data directory, made from the installed binaries.
    Private = "private";
    /// The server that `database_url` names.
    Url = "url";
}

words! {
    /// Who may make an account.
    Registration, "open, invite or closed";
    /// Everyone.
    Open = "open";
    /// Holders of an invitation.
    Invite = "invite";
    /// Nobody; `agent createsuperuser` still works.
    Closed = "closed";
}

impl Value for log::LevelFilter {
    const RULE: &'static str = "error, warn, info, debug or trace";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

/// A value that is never shown: its `Debug` is `<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the value, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<secret>")
    }
}

impl Value for Secret {
    const RULE: &'static str = "file:PATH, env:NAME or the value itself";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::new(text))
    }
}

/// The directory that keeps the originals of uploaded documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobDirectory(PathBuf);

impl BlobDirectory {
    /// Returns the directory, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Value for BlobDirectory {
    const RULE: &'static str = "a directory, as a path or a file:// URL (s3:// is not in this version)";

    fn parse(text: &str) -> Option<Self> {
        let path = match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => path,
            Some(_) => return None,
            None => text,
        };
        std::path::absolute(path).ok().map(Self)
    }

    /// An empty path, which the profile's rules refuse: they name everything that the profile misses at once.
    fn unset() -> Option<Self> {
        Some(Self(PathBuf::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_a_path_or_a_file_url() {
        let path = |text| BlobDirectory::parse(text).map(|directory| directory.path().to_owned());
        assert_eq!(path("file:///srv/blobs"), Some(PathBuf::from("/srv/blobs")));
        assert_eq!(path("/srv/blobs"), Some(PathBuf::from("/srv/blobs")));
        assert_eq!(path("s3://bucket"), None);
        assert_eq!(path("file://host"), None);
        assert_eq!(path(""), None);
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "<secret>");
    }

    #[test]
    fn words_print_as_they_are_read() {
        for word in ["web", "app", "health", "auto"] {
            assert_eq!(Role::parse(word).map(|role| role.to_string()).as_deref(), Some(word));
        }
        assert_eq!(Role::parse("App"), None);
    }
}
