//! Where settings come from, which source wins, and how everything wrong is told at once.

use std::path::Path;
use std::time::Duration;

use agent::config::raw::{Raw, Source};
use agent::config::{DatabaseKind, Problems, Profile, Resolved, Settings};

const APP: (&str, &str) = ("AGENT_ROLE", "app");
const HOME: (&str, &str) = ("HOME", "/home/person");

fn resolve(environment: &[(&str, &str)]) -> Result<Resolved, Problems> {
    let mut variables = vec![APP, HOME];
    variables.extend(environment);
    Settings::resolve(&Raw::from_memory(Vec::new(), &variables))
}

fn problems(environment: &[(&str, &str)]) -> Vec<String> {
    let problems = resolve(environment).expect_err("problems");
    problems.0.iter().map(ToString::to_string).collect()
}

/// Resolves role app with a settings file of this text.
fn resolve_file(text: &str) -> Result<Resolved, Problems> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).expect("file");
    let mut raw = Raw::from_memory(Vec::new(), &[APP, HOME]);
    raw.add_file(&path);
    Settings::resolve(&raw)
}

#[test]
fn role_app_needs_nothing_else_and_stays_on_this_machine() {
    let settings = resolve(&[("XDG_DATA_HOME", "/data")]).expect("settings").settings;
    assert_eq!(settings.profile, Profile::Local);
    assert_eq!(settings.database, DatabaseKind::Private);
    assert_eq!(settings.data_dir, Path::new("/data/agent/app"));
    assert_eq!(settings.blobs.path(), Path::new("/data/agent/app/blobs"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(settings.ops_listen.to_string(), "127.0.0.1:9000");
    assert_eq!(settings.peer_listen, None);
    assert_eq!(settings.drain.balancer_wait, Duration::ZERO);
}

#[test]
fn a_flag_wins_over_a_variable_over_the_folder_over_the_main_file() {
    let folder = tempfile::tempdir().expect("folder");
    let main = folder.path().join("agent.toml");
    let conf_d = folder.path().join("conf.d");
    std::fs::create_dir(&conf_d).expect("conf.d");
    std::fs::write(
        &main,
        "log_level = 'error'\nsession_age = '1d'\nregistration = 'invite'\nblobs = '/main'",
    )
    .expect("main");
    std::fs::write(conf_d.join("10-first.toml"), "session_age = '2d'\nregistration = 'closed'")
        .expect("first");
    std::fs::write(conf_d.join("20-second.toml"), "session_age = '3d'").expect("second");
    std::fs::write(conf_d.join("30-not-settings.bak"), "nonsense").expect("backup");
    let flags = vec![("listen", "--listen", "127.0.0.1:1".to_owned())];
    let variables = [APP, HOME, ("AGENT_LISTEN", "127.0.0.1:2"), ("AGENT_REGISTRATION", "open")];
    let mut raw = Raw::from_memory(flags, &variables);
    raw.add_installed_files(&main, &conf_d);

    let resolved = Settings::resolve(&raw).expect("settings");
    let source = |key| resolved.effective.iter().find(|one| one.key == key).expect("setting").source.clone();
    assert_eq!(resolved.settings.listen.port(), 1);
    assert_eq!(source("listen"), Source::Flag("--listen"));
    assert_eq!(source("registration"), Source::Environment("AGENT_REGISTRATION".to_owned()));
    assert_eq!(resolved.settings.session_age, Duration::from_secs(3 * 86_400));
    assert_eq!(source("session_age"), Source::File(conf_d.join("20-second.toml")));
    assert_eq!(source("log_level"), Source::File(main));
    assert_eq!(source("ops_listen"), Source::Default);
}

#[test]
fn every_problem_is_reported_at_once_and_no_value_is_repeated() {
    let found = problems(&[
        ("AGENT_SERVER_IDLE_TIMEOUT", "75"),
        ("AGENT_UPLOAD_BYTES_MAX", "1.5GiB"),
        ("AGENT_INGEST_WORKERS", "0"),
        ("AGENT_DATABASE_URL", "mysql://user:hunter2@host/db"),
        ("AGENT_REGISTRATON", "open"),
    ]);
    assert_eq!(
        found,
        [
            "AGENT_REGISTRATON: is no setting, did you mean AGENT_REGISTRATION?",
            "server.idle_timeout (AGENT_SERVER_IDLE_TIMEOUT): must be a whole number with a unit (ms, s, m, h, d), such as 75s",
            "upload.bytes_max (AGENT_UPLOAD_BYTES_MAX): must be a whole number with a unit (B, KiB, MiB, GiB, TiB), such as 64MiB",
            "ingest.workers (AGENT_INGEST_WORKERS): must be between 1 and 64",
            "database_url: must begin with postgres:// or postgresql://",
        ]
    );
}

#[test]
fn a_deployment_does_not_talk_to_its_database_in_plain_text() {
    let deployed = |url| {
        let variables = [
            ("AGENT_PROFILE", "aws"),
            ("AGENT_PUBLIC_URLS", "https://chat.example.org"),
            ("AGENT_BLOBS", "/mnt/originals"),
            ("AGENT_DATABASE_URL", url),
        ];
        resolve(&variables).is_ok()
    };
    assert!(!deployed("postgres://u:p@db.example.org/agent"));
    assert!(!deployed("postgres://u:p@db.example.org/agent?sslmode=prefer"));
    assert!(deployed("postgres://u:p@db.example.org/agent?sslmode=verify-full"));
    assert!(deployed("postgres://u@/agent?host=/run/postgresql"));
}

#[test]
fn a_bound_is_accepted_and_its_neighbour_is_not() {
    for (value, good) in [("1", true), ("64", true), ("0", false), ("65", false)] {
        assert_eq!(resolve(&[("AGENT_INGEST_WORKERS", value)]).is_ok(), good, "{value}");
    }
}

#[test]
fn an_unknown_key_in_a_file_is_a_problem_with_the_nearest_name() {
    let error = resolve_file("[server]\nidel_timeout = '75s'\n[web]\nnext_dir = '/x'").expect_err("problems");
    let text = error.to_string();
    assert!(text.contains("server.idel_timeout"), "{text}");
    assert!(text.contains("did you mean server.idle_timeout?"), "{text}");
    assert!(text.contains("web.next_dir"), "{text}");
}

#[test]
fn a_broken_file_is_told_by_line_without_its_text() {
    let text = resolve_file("role = 'app'\ndatabase_url = 'postgres://u:hunter2@h")
        .expect_err("problem")
        .to_string();
    assert!(text.contains("line 2"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn lists_in_a_file_are_arrays_or_text() {
    let resolved = resolve_file(
        "public_urls = ['https://a.example', 'https://b.example/']\ntrusted_proxies = '10.0.0.0/8'",
    );
    let settings = resolved.expect("settings").settings;
    assert_eq!(settings.public_urls.len(), 2);
    assert_eq!(settings.trusted_proxies.len(), 1);
}

#[test]
fn strangers_variables_are_warnings_and_ours_for_tests_are_nothing() {
    let resolved =
        resolve(&[("AGENT_JOBNAME", "build 7"), ("AGENT_TEST_MODEL_DIR", "/m")]).expect("settings");
    let warned: Vec<&str> = resolved.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(warned, ["AGENT_JOBNAME"]);
}

#[test]
fn a_secret_is_a_reference_that_is_followed_and_never_shown() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("url");
    std::fs::write(&path, "postgres://u:hunter2@host/db\n").expect("secret");
    let reference = format!("file:{}", path.display());
    for environment in [
        vec![("AGENT_DATABASE_URL", reference.as_str())],
        vec![("AGENT_DATABASE_URL", "env:DB"), ("DB", "postgres://u:hunter2@host/db")],
        vec![("AGENT_DATABASE_URL", "postgres://u:hunter2@host/db")],
    ] {
        let resolved = resolve(&environment).expect("settings");
        let url = resolved.settings.database_url.as_ref().expect("url").expose();
        assert_eq!(url, "postgres://u:hunter2@host/db");
        assert_eq!(resolved.settings.database, DatabaseKind::Url);
        assert!(!format!("{resolved:?}").contains("hunter2"));
    }
}

#[test]
fn a_secret_that_is_missing_or_in_a_later_version_s_store_is_a_problem() {
    for (reference, says) in [
        ("file:/nowhere/url", "cannot be read"),
        ("env:NOT_SET", "not set"),
        ("secretsmanager:agent/db", "not in this version"),
        ("ssm:/agent/db", "not in this version"),
    ] {
        let found = problems(&[("AGENT_DATABASE_URL", reference)]);
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }
}

#[test]
fn a_deployed_node_names_everything_it_misses_and_never_makes_its_own_postgres() {
    let found = problems(&[("AGENT_PROFILE", "aws")]);
    let subjects: Vec<&str> = found.iter().map(|line| line.split(':').next().expect("subject")).collect();
    assert_eq!(subjects, ["public_urls", "blobs", "database_url"]);
}

#[test]
fn a_deployed_node_may_ask_for_a_private_postgres_by_name() {
    let settings = resolve(&[
        ("AGENT_PROFILE", "aws"),
        ("AGENT_PUBLIC_URLS", "https://chat.example.org"),
        ("AGENT_BLOBS", "file:///mnt/shared"),
        ("AGENT_DATABASE", "private"),
    ])
    .expect("settings")
    .settings;
    assert_eq!(settings.database, DatabaseKind::Private);
    assert_eq!(settings.data_dir, Path::new("/var/lib/agent"));
    assert_eq!(settings.ops_listen.to_string(), "127.0.0.1:9600");
}

#[test]
fn a_role_of_another_version_is_one_clear_line() {
    for (role, says) in
        [("auto", "give --role app"), ("web", "not in this version"), ("health", "not in this version")]
    {
        let raw = Raw::from_memory(Vec::new(), &[HOME, ("AGENT_ROLE", role)]);
        let problems = Settings::resolve(&raw).expect_err("problem");
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert!(problems.to_string().contains(says), "{problems}");
    }
}

#[test]
fn the_drain_must_leave_time_before_the_unit_s_stop_timeout() {
    let drain = |deadline| [("AGENT_DRAIN_BALANCER_WAIT", "20s"), ("AGENT_DRAIN_DEADLINE", deadline)];
    assert!(resolve(&drain("40s")).is_ok());
    assert_eq!(problems(&drain("41s")).len(), 1);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(resolve(&[("AGENT_LISTEN", "")]).expect("settings").settings.listen.port(), 8000);
}
