//! Gathers settings as text from flags, the environment and files. The only reader of the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::problem::Problem;

/// The settings file that packages install.
pub const MAIN_FILE: &str = "/etc/agent/agent.toml";
/// A folder of settings files, read in order of their names; each wins over those before it and over [`MAIN_FILE`].
pub const FOLDER: &str = "/etc/agent/conf.d";
/// Variables that begin so belong to the tests and benches and are not settings.
const FOREIGN_PREFIXES: [&str; 3] = ["AGENT_TEST_", "AGENT_BENCH_", "AGENT_SUPERUSER_"];

/// Where a value came from. Displays as a person would look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A command-line flag, with its dashes.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A settings file.
    File(PathBuf),
    /// The table of settings.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => formatter.write_str(name),
            Self::Environment(name) => formatter.write_str(name),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A flag of the command line that is a setting too: key, flag as typed, value.
pub type Flag = (&'static str, &'static str, String);

/// Everything that was said, before anything is believed.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    flags: Vec<Flag>,
    environment: BTreeMap<String, String>,
    /// Strongest last.
    files: Vec<(PathBuf, BTreeMap<String, String>)>,
    assumed: BTreeMap<&'static str, &'static str>,
    problems: Vec<Problem>,
}

impl Raw {
    /// Reads the environment, and the settings files: only `config` where it is given, else those under `/etc/agent`.
    pub fn gather(flags: Vec<Flag>, config: Option<&Path>) -> Self {
        let mut raw = Self { flags, environment: process_environment(), ..Self::default() };
        match config {
            Some(path) => raw.add_file(path),
            None => raw.add_installed_files(Path::new(MAIN_FILE), Path::new(FOLDER)),
        }
        raw
    }

    /// Takes settings from memory: `flags` and the variables of `environment`, no file and nothing of this process.
    pub fn from_memory(flags: Vec<Flag>, environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { flags, environment: environment.collect(), ..Self::default() }
    }

    /// Gives a setting another default: what a command takes for granted where nothing says otherwise.
    #[must_use]
    pub fn assume(mut self, key: &'static str, text: &'static str) -> Self {
        self.assumed.insert(key, text);
        self
    }

    /// Adds the main file and those of the folder, as far as they exist.
    pub fn add_installed_files(&mut self, main: &Path, folder: &Path) {
        if main.exists() {
            self.add_file(main);
        }
        let mut paths: Vec<PathBuf> = match std::fs::read_dir(folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.add_problem(folder, format!("cannot be read: {error}")),
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        for path in paths {
            self.add_file(&path);
        }
    }

    /// Adds a settings file that wins over those added before it.
    pub fn add_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.add_problem(path, format!("cannot be read: {error}")),
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // Only the position and the complaint: the error's own display quotes the line, which may hold a secret.
                let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
                return self.add_problem(path, format!("line {line}: {}", error.message()));
            }
        };
        let mut values = BTreeMap::new();
        if let Err(key) = flatten("", &table, &mut values) {
            self.add_problem(path, format!("{key} must be a value or a list of values"));
        }
        self.files.push((path.to_owned(), values));
    }

    fn add_problem(&mut self, path: &Path, message: String) {
        self.problems.push(Problem::new(path.display().to_string(), message));
    }

    /// Returns the strongest value given for `key`, and where it was given. An empty variable counts as not set.
    pub(super) fn value(&self, key: &'static str) -> Option<(&str, Source)> {
        if let Some((_, flag, text)) = self.flags.iter().find(|(name, ..)| *name == key) {
            return Some((text, Source::Flag(flag)));
        }
        let name = super::environment_name(key);
        if let Some(text) = self.variable(&name) {
            return Some((text, Source::Environment(name)));
        }
        let in_file = self.files.iter().rev().find_map(|(path, values)| Some((path, values.get(key)?)));
        match in_file {
            Some((path, text)) => Some((text, Source::File(path.clone()))),
            None => Some((self.assumed.get(key)?, Source::Default)),
        }
    }

    /// Returns an environment variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Returns every key that some file gives, with the file.
    pub(super) fn file_keys(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files
            .iter()
            .flat_map(|(path, values)| values.keys().map(move |key| (key.as_str(), path.as_path())))
    }

    /// Returns the variables that look like settings.
    pub(super) fn setting_variables(&self) -> impl Iterator<Item = &str> {
        let ours = |name: &&str| {
            name.starts_with("AGENT_") && !FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        self.environment.keys().map(String::as_str).filter(ours)
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Copies the environment. A value that is not UTF-8 is kept with replacement characters: no setting accepts those.
fn process_environment() -> BTreeMap<String, String> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Turns nested tables into dotted keys, and values into the text that a variable would have.
/// Returns the key of the first value that has no such text, after all others.
fn flatten(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) -> Result<(), String> {
    let mut outcome = Ok(());
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let text = match value {
            toml::Value::Table(inner) => {
                outcome = outcome.and(flatten(&format!("{key}."), inner, into));
                continue;
            }
            toml::Value::Array(items) => {
                items.iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            value => scalar(value),
        };
        match text {
            Some(text) => drop(into.insert(key, text)),
            None => outcome = outcome.and(Err(key)),
        }
    }
    outcome
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Datetime(time) => Some(time.to_string()),
        toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}
