//! The binary as people and units meet it: arguments, exit codes, commands beside a node, start and stop.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;

use super::support::node::{Node, agent, data_folder, run};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr_lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stderr.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn version_needs_no_settings_to_be_right() {
    let output = run(&["version"], &[("listen", "nonsense")]);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output), concat!("agent ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    assert_eq!(code(&run(&["--no-such-flag"], &[])), 2);
}

#[test]
fn without_a_role_one_line_says_which_flag_to_give() {
    let output = run(&[], &[("data_dir", "/nowhere")]);
    let lines = stderr_lines(&output);
    assert_eq!(code(&output), 78);
    assert!(lines.len() == 1 && lines[0].contains("--role app"), "{lines:?}");
}

#[test]
fn every_problem_is_a_line_and_no_line_has_the_value() {
    let settings = [("data_dir", "/nowhere"), ("listen", "hunter2"), ("session_age", "hunter2")];
    let output = run(&["check", "--role", "app"], &settings);
    let lines = stderr_lines(&output);
    assert_eq!(code(&output), 78);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("agent: listen (AGENT_LISTEN): must be"), "{lines:?}");
    assert!(!lines.concat().contains("hunter2"), "{lines:?}");
}

#[test]
fn check_names_sources_and_hides_secrets() {
    let settings = [("data_dir", "/nowhere"), ("database_url", "postgres://u:hunter2@host/db")];
    let output = run(&["check", "--role", "app"], &settings);
    let text = stdout(&output);
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert_eq!(code(&output), 0);
    assert!(line("role = app").ends_with("# --role"));
    assert!(line("database_url = <secret>").ends_with("# AGENT_DATABASE_URL"));
    assert!(line("listen = 127.0.0.1:8000").ends_with("# default"));
    assert!(!text.contains("hunter2"));
}

#[test]
fn check_gives_a_script_one_value() {
    let settings = [("data_dir", "/nowhere"), ("database_url", "postgres://u:hunter2@host/db")];
    let value = |key| run(&["--role", "app", "check", "--value", key], &settings);
    assert_eq!(stdout(&value("data_dir")), "/nowhere\n");
    assert_eq!(stdout(&value("model.dir")), "/nowhere/model\n");
    assert_eq!(stdout(&value("database_url")), "<secret>\n");
    assert_eq!(code(&value("data_dirr")), 1);
}

#[test]
fn a_model_that_is_none_is_refused_and_nothing_is_left() {
    let folder = data_folder();
    let (wheel, target) = (folder.path().join("model.whl"), folder.path().join("model"));
    std::fs::write(&wheel, "not a zip").unwrap();
    let arguments = ["model", "install", wheel.to_str().unwrap(), "--dir", target.to_str().unwrap()];
    let output = run(&arguments, &[("data_dir", "/nowhere")]);
    assert_eq!(code(&output), 1);
    assert_eq!(stderr_lines(&output).len(), 1);
    assert!(!target.exists());
}

#[test]
fn without_postgres_a_start_is_one_line_and_exit_code_78() {
    let folder = data_folder();
    let data_dir = folder.path().to_str().unwrap();
    let settings = [
        ("data_dir", data_dir),
        ("listen", "127.0.0.1:0"),
        ("postgres_bin_dir", "/nowhere"),
        ("log_level", "error"),
    ];
    let output = run(&["--role", "app"], &settings);
    let lines = stderr_lines(&output);
    assert_eq!(code(&output), 78);
    assert!(lines.len() == 1 && lines[0].contains("PostgreSQL"), "{lines:?}");
}

#[test]
fn doctor_reports_everything_and_fails_where_the_node_cannot_run() {
    let folder = data_folder();
    let data_dir = folder.path().to_str().unwrap();
    let settings = [("data_dir", data_dir), ("listen", "127.0.0.1:0"), ("postgres_bin_dir", "/nowhere")];
    let output = run(&["doctor"], &settings);
    let text = stdout(&output);
    assert_eq!(code(&output), 1, "{text}");
    for subject in ["user", "processor", "open files", "clock", "data_dir", "disk", "listen", "model"] {
        assert!(text.contains(subject), "{subject} is missing in\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("fail  postgresql")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("warn  model")), "{text}");
}

#[test]
fn a_taken_address_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = data_folder();
    let settings = [
        ("data_dir", folder.path().to_str().unwrap()),
        ("listen", &address),
        ("ops_listen", "127.0.0.1:0"),
        ("log_level", "error"),
    ];
    let output = run(&["--role", "app"], &settings);
    let lines = stderr_lines(&output);
    assert_eq!(code(&output), 1);
    assert!(lines.len() == 1 && lines[0].contains(&address), "{lines:?}");
}

#[test]
fn a_node_starts_on_nothing_stops_in_order_and_finds_its_data_again() {
    let folder = data_folder();
    let data_dir = folder.path().join("data");
    let on_data = |arguments: &[&str]| run(arguments, &[("data_dir", data_dir.to_str().unwrap())]);

    let node = Node::start(&data_dir, &[]);
    assert!(node.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(node.get("/api/auth/me/").starts_with("HTTP/1.1 401"));
    let mut create = agent(&["createsuperuser", "--username", "ada", "--password-stdin"], &[])
        .env("AGENT_DATA_DIR", &data_dir)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    create.stdin.take().unwrap().write_all(b"blue-kettle-71\n").unwrap();
    assert_eq!(create.wait().unwrap().code(), Some(0), "an account is made beside the running node");
    assert_eq!(node.stop(), Some(0));

    let again = agent(&["createsuperuser", "--username", "ada"], &[])
        .env("AGENT_DATA_DIR", &data_dir)
        .env("AGENT_SUPERUSER_PASSWORD", "blue-kettle-71")
        .output()
        .unwrap();
    assert_eq!(code(&again), 1, "the account is there although the node is not");
    assert_eq!(code(&on_data(&["migrate"])), 0);
    assert_eq!(code(&on_data(&["clearsessions"])), 0);
    let node = Node::start(&data_dir, &[]);
    assert!(node.get("/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_second_node_on_the_same_data_is_refused() {
    let folder = data_folder();
    let node = Node::start(folder.path(), &[]);
    let settings =
        [("data_dir", folder.path().to_str().unwrap()), ("listen", "127.0.0.1:0"), ("log_level", "error")];
    let output = run(&["--role", "app"], &settings);
    let lines = stderr_lines(&output);
    assert_eq!(code(&output), 78);
    assert!(lines.len() == 1 && lines[0].contains("in use by another agent"), "{lines:?}");
    assert!(folder.path().join("ops.sock").exists(), "the first node still takes commands");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn with_its_database_away_a_node_stays_up_and_not_ready() {
    let folder = data_folder();
    // Nothing listens on a port that was just let go.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://nobody@127.0.0.1:{port}/none");
    let node = Node::spawn(folder.path(), &[("database_url", &url)]);
    assert!(node.get("/livez").starts_with("HTTP/1.1 200"));
    let ready = node.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("starting database"), "{ready}");
    assert!(node.get("/api/auth/me/").starts_with("HTTP/1.1 503"));
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_second_interrupt_cuts_the_stop_short() {
    let folder = data_folder();
    let mut node = Node::start(folder.path(), &[("drain.balancer_wait", "30s"), ("drain.deadline", "30s")]);
    node.signal(Signal::SIGINT);
    node.wait_for("STOPPING=1");
    let ready = node.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("draining"), "{ready}");
    node.signal(Signal::SIGINT);
    assert_eq!(node.wait().code(), Some(130));
}
