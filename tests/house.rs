//! House rules as tests: who imports whom, where vendor crates may appear, how long a file may be, and that the
//! documentation names what the code has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use agent::cli::ExitCode;
use agent::config::{CLOSE_RESERVE, STOP_TIMEOUT, Settings, definitions, environment_name};
use agent::store::{cluster, migrate};

/// The longest source file, in lines.
const FILE_LINES_MAX: usize = 400;

/// Modules from the bottom up, each with those that it may import besides its own.
const LAYERS: [(&str, &[&str]); 10] = [
    ("config", &[]),
    ("telemetry", &["config"]),
    ("process", &["telemetry", "config"]),
    ("server", &["telemetry", "config"]),
    ("llm", &["telemetry", "config"]),
    ("store", &["process", "telemetry", "config"]),
    ("index", &["store", "telemetry", "config"]),
    ("rag", &["index", "store", "llm", "telemetry", "config"]),
    ("app", &["rag", "index", "store", "llm", "server", "telemetry", "config"]),
    ("node", &["app", "rag", "index", "store", "llm", "server", "process", "telemetry", "config"]),
];

/// Vendor crates, and the places outside of which nobody knows them.
const VENDORS: [(&[&str], &[&str]); 8] = [
    (&["tokio_postgres", "tokio_postgres_rustls", "deadpool_postgres", "object_store"], &["store/"]),
    (
        &["rten_gemm", "rten_tensor", "rten_vecmath", "rten_text", "safetensors", "tokenizers"],
        &["rag/embed/"],
    ),
    (&["html5ever", "pulldown_cmark", "chardetng", "encoding_rs"], &["rag/extract/"]),
    (&["rustls", "tokio_rustls", "rustls_pki_types"], &["server/", "store/tls.rs", "rag/embed/install/"]),
    (&["argon2"], &["app/passwords.rs"]),
    (&["clap"], &["cli.rs", "main.rs"]),
    (&["toml"], &["config/"]),
    (&["systemd_journal_logger"], &["telemetry/logging.rs"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Rust file below `folder`, with its path relative to it.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Returns the code without its comment lines.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Returns the top modules of this crate that `code` names after `crate::`, groups in braces included.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, prefix)| code.split_at(at + prefix.len())) {
        match rest.strip_prefix('{') {
            None => drop(names.insert(identifier(rest))),
            Some(group) => names.extend(members(group)),
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns the first name of each member of a group, up to the brace that closes it.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    let mut member = String::new();
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.push(std::mem::take(&mut member)),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => member.push(character),
            _ => {}
        }
    }
    names.push(member);
    names.iter().map(|name| identifier(name.trim())).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_reader_of_imports_sees_paths_and_groups() {
    let code = "use crate::app::{self, App};\nuse crate::{store::{Store, ids}, rag};\ncrate::node::run();";
    let expected = ["app", "node", "rag", "store"].map(str::to_owned);
    assert_eq!(modules_named(code), BTreeSet::from(expected));
    assert!(names_crate("use rustls::Config", "rustls"));
    assert!(!names_crate("use tokio_rustls::Config", "rustls"));
    assert!(!names_crate("my::rustls::Config", "rustls"));
}

#[test]
fn imports_go_downwards_only() {
    let layers: BTreeSet<&str> = LAYERS.iter().map(|(module, _)| *module).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        let module = path.split(['/', '.']).next().unwrap();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            assert!(["main", "lib", "cli"].contains(&module), "{path} is in no layer: add it to LAYERS");
            continue;
        };
        for named in modules_named(&code(&text)) {
            let is_module = layers.contains(named.as_str()) || named == "cli";
            if is_module && named != module && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{path} imports {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_vendor_crate_appears_in_its_own_folder_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        let code = code(&text);
        for (crates, places) in VENDORS {
            if places.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for name in crates.iter().filter(|name| names_crate(&code, name)) {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn names_crate(code: &str, name: &str) -> bool {
    let starts_path = |at: usize| {
        let before = code[..at].chars().next_back();
        let is_inside_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        !is_inside_name && code[at + name.len()..].starts_with("::")
    };
    code.match_indices(name).any(|(at, _)| starts_path(at))
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for (path, text) in sources(&root().join(folder)) {
            let lines = text.lines().count();
            if lines > FILE_LINES_MAX {
                long.push(format!("{folder}/{path} has {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn only_config_reads_the_environment() {
    let readers: Vec<String> = sources(&root().join("src"))
        .into_iter()
        .filter(|(path, text)| path != "config/raw.rs" && code(text).contains("env::var"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(readers, Vec::<String>::new());
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Returns the table rows of a document whose first cell is code: ``| `…` |``.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("| `")).collect()
}

#[test]
fn the_documented_settings_are_those_of_the_code() {
    let expected: Vec<String> = definitions()
        .map(|setting| {
            let range = setting.range.map(|(low, high)| format!("; {low} to {high}")).unwrap_or_default();
            let (key, rule, default) = (setting.key, setting.rule, setting.default.describe());
            format!("| `{key}` | {rule}{range} | {default} | {} |", setting.help.trim())
        })
        .collect();
    let text = document("configuration.md");
    let settings = text.split("## Exit codes").next().unwrap();
    assert_eq!(
        rows(settings),
        expected,
        "docs/configuration.md must have these rows:\n{}",
        expected.join("\n")
    );
}

#[test]
fn the_documented_exit_codes_are_those_of_the_code() {
    let expected: Vec<String> =
        ExitCode::TABLE.iter().map(|(_, number, meaning)| format!("| `{number}` | {meaning} |")).collect();
    let text = document("configuration.md");
    let codes = text.split("## Exit codes").nth(1).expect("a section about exit codes");
    assert_eq!(rows(codes), expected, "docs/configuration.md must have these rows:\n{}", expected.join("\n"));
}

#[test]
fn every_setting_has_a_variable_of_its_own() {
    let names: BTreeSet<String> = definitions().map(|setting| environment_name(setting.key)).collect();
    assert_eq!(names.len(), definitions().count());
}

#[test]
fn every_migration_is_listed() {
    let mut files: Vec<String> = fs::read_dir(root().join("src/store/migrations"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path().file_stem().unwrap().display().to_string())
        .collect();
    files.sort();
    let listed: Vec<&str> = migrate::MIGRATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, listed);
}

#[test]
fn a_stop_ends_before_the_unit_s_stop_timeout() {
    assert!(cluster::STOP_DEADLINE <= CLOSE_RESERVE);
    for profile in ["local", "aws"] {
        let pairs = [
            ("role", "app"),
            ("profile", profile),
            ("data_dir", "/nowhere"),
            ("public_urls", "https://chat.example.org"),
            ("blobs", "/nowhere/blobs"),
            ("database", "private"),
        ];
        let settings = Settings::from_pairs(&pairs).unwrap();
        assert!(settings.drain.total() + CLOSE_RESERVE <= STOP_TIMEOUT, "{profile}");
    }
}

#[test]
fn every_setting_has_an_effect() {
    let code: String = sources(&root().join("src"))
        .into_iter()
        .filter(|(path, _)| !path.starts_with("config/"))
        .map(|(_, text)| code(&text))
        .collect();
    let unused: Vec<&str> = definitions()
        .map(|setting| setting.key)
        .filter(|key| !code.contains(&format!(".{}", key.rsplit('.').next().unwrap())))
        .collect();
    assert_eq!(unused, Vec::<&str>::new());
}
