//! From text to [`Settings`]: one pass over the table that collects every problem.

use std::ffi::OsString;
use std::path::Path;

use super::definition::{DefaultValue, Definition};
use super::names::nearest;
use super::problem::{Problem, Problems};
use super::raw::{Raw, Source};
use super::rules;
use super::settings::{Settings, definitions, environment_name};
use super::value::Value;
use super::vocabulary::Profile;

/// A setting's value as it may be shown, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Path of the setting.
    pub key: &'static str,
    /// The value as text; `<secret>` for a secret; `None` where it is not set.
    pub shown: Option<String>,
    /// Where the value came from.
    pub source: Source,
}

/// Usable settings, with what `agent check` and the log say about them.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Every setting in the order of the table.
    pub effective: Vec<Effective>,
    /// Variables that look like settings and are none.
    pub warnings: Vec<Problem>,
    /// What other programs' variables say.
    pub surroundings: Surroundings,
}

/// Variables that are no settings of ours but say how this process was started.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `$PATH`: where programs are looked for.
    pub search_path: Option<OsString>,
    /// `$NOTIFY_SOCKET`: where systemd wants to hear that the node is ready.
    pub notify_socket: Option<String>,
}

impl Resolved {
    /// Returns where the value of `key` came from.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.effective.iter().find(|effective| effective.key == key).map(|effective| &effective.source)
    }
}

impl Settings {
    /// Turns what was gathered into types.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn resolve(raw: &Raw) -> Result<Resolved, Problems> {
        let mut reader = Reader { raw, effective: Vec::new(), problems: raw.problems().to_vec() };
        let warnings = reader.check_names();
        let settings = Self::read(&mut reader);
        if let Some(settings) = &settings {
            rules::check(settings, &mut reader.problems);
        }
        match settings {
            Some(settings) if reader.problems.is_empty() => {
                let surroundings = Surroundings {
                    search_path: raw.variable("PATH").map(OsString::from),
                    notify_socket: raw.variable("NOTIFY_SOCKET").map(str::to_owned),
                };
                Ok(Resolved { settings, effective: reader.effective, warnings, surroundings })
            }
            _ => Err(Problems(reader.problems)),
        }
    }

    /// Makes settings from keys and values alone: no file, nothing of this process's environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, Problems> {
        let environment: Vec<(String, &str)> =
            pairs.iter().map(|(key, value)| (environment_name(key), *value)).collect();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        Self::resolve(&Raw::from_memory(Vec::new(), &environment)).map(|resolved| resolved.settings)
    }
}

/// Reads one setting after the other and remembers what it saw.
#[derive(Debug)]
pub struct Reader<'a> {
    raw: &'a Raw,
    effective: Vec<Effective>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Returns the text of a setting that was read before this one; `<secret>` stands for a secret.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.effective.iter().find(|effective| effective.key == key)?.shown.as_deref()
    }

    /// Returns an environment variable that is no setting of ours, such as `HOME`.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.raw.variable(name)
    }

    /// Returns the profile, once it has been read.
    pub(super) fn profile(&self) -> Profile {
        self.text("profile").and_then(Profile::parse).unwrap_or(Profile::Local)
    }

    /// Reads one setting. After a problem the default stands in, so that the rules still see the rest.
    pub(super) fn read<T: Value>(&mut self, definition: &'static Definition) -> Option<T> {
        let default = self.default_text(definition);
        let given = self.raw.value(definition.key).map(|(text, source)| (text.to_owned(), source));
        let parsed = given.as_ref().and_then(|(text, source)| self.parse(definition, text, source));
        if let (Some(value), Some((text, source))) = (parsed, given) {
            self.remember(definition, Some(text), source);
            return Some(value);
        }
        let value = default.as_deref().map_or_else(T::unset, T::parse);
        if value.is_none() {
            self.problems.push(Problem::new(definition.key, format!("must be set: {}", T::RULE)));
        }
        self.remember(definition, default, Source::Default);
        value
    }

    fn parse<T: Value>(&mut self, definition: &Definition, text: &str, source: &Source) -> Option<T> {
        let resolved = if T::SECRET { self.dereference(text) } else { Ok(text.to_owned()) };
        let outcome = resolved.and_then(|text| {
            let value = T::parse(&text).ok_or_else(|| format!("must be {}", T::RULE))?;
            within_range(&value, definition.range)?;
            Ok(value)
        });
        match outcome {
            Ok(value) => Some(value),
            Err(message) => {
                let subject = definition.key.to_owned();
                self.problems.push(Problem { subject, source: Some(source.clone()), message });
                None
            }
        }
    }

    /// Follows a reference to a secret. A text that is no reference is the secret itself.
    fn dereference(&self, text: &str) -> Result<String, String> {
        match text.split_once(':') {
            Some(("file", path)) => read_secret(Path::new(path)),
            Some(("env", name)) => self
                .raw
                .variable(name)
                .map(str::to_owned)
                .ok_or_else(|| format!("refers to the variable {name}, which is not set")),
            Some((store @ ("secretsmanager" | "ssm"), _)) => {
                Err(format!("{store}: references are not in this version, use file: or env:"))
            }
            _ => Ok(text.to_owned()),
        }
    }

    fn default_text(&self, definition: &Definition) -> Option<String> {
        match definition.default {
            DefaultValue::Unset => None,
            DefaultValue::Same(text) => Some(text.to_owned()),
            DefaultValue::ByProfile { local, aws } => {
                Some(if self.profile() == Profile::Local { local } else { aws }.to_owned())
            }
            DefaultValue::Derived { compute, .. } => compute(self),
        }
    }

    fn remember(&mut self, definition: &'static Definition, text: Option<String>, source: Source) {
        let shown = if definition.secret { text.map(|_| "<secret>".to_owned()) } else { text };
        self.effective.push(Effective { key: definition.key, shown, source });
    }

    /// Finds names that are no settings: a problem in a file, and in the environment where it is nearly one.
    /// Other `AGENT_*` variables are returned as warnings: build systems set some of their own.
    fn check_names(&mut self) -> Vec<Problem> {
        let keys: Vec<&str> = definitions().map(|definition| definition.key).collect();
        for (key, path) in self.raw.file_keys().filter(|(key, _)| !keys.contains(key)) {
            let message = match nearest(key, keys.iter().copied()) {
                Some(meant) => format!("is no setting, did you mean {meant}?"),
                None => "is no setting".to_owned(),
            };
            let source = Some(Source::File(path.to_owned()));
            self.problems.push(Problem { subject: key.to_owned(), source, message });
        }
        let names: Vec<String> = keys.iter().map(|key| environment_name(key)).collect();
        let mut warnings = Vec::new();
        for variable in
            self.raw.setting_variables().filter(|variable| !names.iter().any(|name| name == variable))
        {
            match nearest(variable, names.iter().map(String::as_str)) {
                Some(meant) => {
                    self.problems
                        .push(Problem::new(variable, format!("is no setting, did you mean {meant}?")));
                }
                None => warnings.push(Problem::new(variable, "is no setting and has no effect")),
            }
        }
        warnings
    }
}

/// Reads a secret from its file, without the line break that editors and `echo` leave at the end.
fn read_secret(path: &Path) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(format!("refers to the file {}, which cannot be read: {error}", path.display())),
    }
}

fn within_range<T: Value>(value: &T, range: Option<(&str, &str)>) -> Result<(), String> {
    let Some((low, high)) = range else { return Ok(()) };
    let bound = |text| T::parse(text).and_then(|bound| bound.order());
    let inside = value.order().is_none_or(|order| bound(low) <= Some(order) && Some(order) <= bound(high));
    if inside { Ok(()) } else { Err(format!("must be between {low} and {high}")) }
}
