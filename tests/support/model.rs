//! The embedding model that tests use: the real one, loaded once for all of them.

use std::path::PathBuf;
use std::sync::OnceLock;

use agent::rag::embed::Embedder;

/// The variable that names the model's directory; `make test` sets it.
const DIRECTORY: &str = "AGENT_TEST_MODEL_DIR";

/// Returns the directory of an installed model.
///
/// # Panics
/// When there is none: without the model most of the product would go untested in silence.
pub fn directory() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings")]
    let directory = std::env::var(DIRECTORY);
    let directory = directory.unwrap_or_else(|_| {
        panic!("{DIRECTORY} is not set: run `make model`, or the tests through `make test`")
    });
    let directory = PathBuf::from(directory);
    assert!(
        directory.join("model.safetensors").exists(),
        "no model in {}: run `make model`",
        directory.display()
    );
    directory
}

/// Returns the model, with two threads.
pub fn embedder() -> Embedder {
    static SHARED: OnceLock<Embedder> = OnceLock::new();
    SHARED.get_or_init(|| Embedder::load(&directory(), 2).expect("the test model loads")).clone()
}
