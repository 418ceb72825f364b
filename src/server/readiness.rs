//! Whether this node wants traffic, and why not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Whether the node is ready. Clones share the state.
///
/// Only local reasons belong here. A database or a model endpoint that is down must not take every node of a tier out
/// of service at once; what people should know about those is told with [`Readiness::report`].
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    role: &'static str,
    is_draining: bool,
    /// Parts that have not yet started; once done they do not come back.
    starting: Vec<&'static str>,
    /// Parts that cannot work at the moment, with the reason.
    failing: BTreeMap<&'static str, String>,
    /// How parts do, for people.
    reports: BTreeMap<&'static str, String>,
}

/// The state at one moment, as `/healthz/deep` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// What the node is.
    pub role: &'static str,
    /// Whether it wants traffic.
    pub ready: bool,
    /// Why it does not; empty when ready.
    pub reasons: Vec<String>,
    /// How its parts do, dependencies included.
    pub parts: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Makes the state of a node that starts: not ready until each of the `starting` parts is done.
    pub fn new(role: &'static str, starting: &[&'static str]) -> Self {
        Self(Arc::new(RwLock::new(State {
            role,
            is_draining: false,
            starting: starting.to_vec(),
            failing: BTreeMap::new(),
            reports: BTreeMap::new(),
        })))
    }

    /// Notes that a part has started, for good.
    pub fn started(&self, part: &'static str) {
        self.change(|state| state.starting.retain(|&starting| starting != part));
    }

    /// Notes that a part cannot work, until [`Readiness::recovered`].
    pub fn failing(&self, part: &'static str, reason: impl Into<String>) {
        self.change(|state| state.failing.insert(part, reason.into()));
    }

    /// Notes that a part works again.
    pub fn recovered(&self, part: &'static str) {
        self.change(|state| state.failing.remove(part));
    }

    /// Says how a part does, for people; decides nothing. Never holds a secret or a user's data.
    pub fn report(&self, part: &'static str, text: impl Into<String>) {
        self.change(|state| state.reports.insert(part, text.into()));
    }

    /// Takes the node out of service, for good.
    pub fn drain(&self) {
        self.change(|state| state.is_draining = true);
    }

    /// Tells whether the node is on its way out of service.
    pub fn is_draining(&self) -> bool {
        self.read(|state| state.is_draining)
    }

    /// Tells whether the node wants traffic, or all reasons why it does not.
    ///
    /// # Errors
    /// The reasons: `draining`, `starting <part>`, `<part>: <reason>`.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let reasons = self.read(State::reasons);
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Returns the whole state.
    pub fn health(&self) -> Health {
        self.read(|state| {
            let reasons = state.reasons();
            Health { role: state.role, ready: reasons.is_empty(), reasons, parts: state.reports.clone() }
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn reasons(&self) -> Vec<String> {
        let draining = self.is_draining.then(|| "draining".to_owned());
        let starting = self.starting.iter().map(|part| format!("starting {part}"));
        let failing = self.failing.iter().map(|(part, reason)| format!("{part}: {reason}"));
        draining.into_iter().chain(starting).chain(failing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_part_has_started_and_none_fails() {
        let readiness = Readiness::new("app", &["database", "index"]);
        readiness.started("database");
        assert_eq!(readiness.check(), Err(vec!["starting index".to_owned()]));
        readiness.started("index");
        assert_eq!(readiness.check(), Ok(()));
        readiness.failing("data_dir", "read-only");
        assert_eq!(readiness.check(), Err(vec!["data_dir: read-only".to_owned()]));
        readiness.recovered("data_dir");
        assert_eq!(readiness.check(), Ok(()));
    }

    #[test]
    fn a_report_decides_nothing() {
        let readiness = Readiness::new("app", &[]);
        readiness.report("database", "unreachable for 3 s");
        let health = readiness.health();
        assert!(health.ready);
        assert_eq!(health.parts["database"], "unreachable for 3 s");
    }

    #[test]
    fn draining_is_for_good() {
        let readiness = Readiness::new("app", &[]);
        let same = readiness.clone();
        same.drain();
        assert!(readiness.is_draining());
        assert_eq!(readiness.check(), Err(vec!["draining".to_owned()]));
    }
}
