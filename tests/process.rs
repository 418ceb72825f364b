//! Children: what they print, how they end, and that they do not outlive the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::process::{Child, Command, Error, Signal, Spawner};
use tokio::time::{sleep, timeout};

/// Far more than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn shell(script: &str, dir: &Path) -> Command {
    Command {
        name: "sh",
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        env: vec![("GREETING".into(), "hello".into())],
        current_dir: dir.to_owned(),
        user: None,
        death_signal: Signal::SIGINT,
        level: |_| log::Level::Debug,
    }
}

/// A script that runs until SIGINT, which it notes in the file `interrupted`.
const UNTIL_INTERRUPTED: &str =
    "trap 'touch interrupted; exit 3' INT; touch ready; while :; do sleep 0.02; done";

async fn appears(path: &Path) {
    let seen = timeout(PATIENCE, async {
        while !path.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{} does not appear", path.display()));
}

async fn start_and_wait_ready(script: &str, dir: &Path, spawner: &Spawner) -> Child {
    let child = spawner.spawn(shell(script, dir)).await.unwrap();
    appears(&dir.join("ready")).await;
    child
}

#[tokio::test]
async fn a_child_sees_only_the_environment_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    let script = "echo $GREETING; echo ${HOME:-no home} >&2; exit 7";
    let finished = spawner.run(shell(script, dir.path())).await.unwrap();
    assert_eq!(finished.status.code(), Some(7));
    let mut tail = finished.tail;
    tail.sort();
    assert_eq!(tail, ["hello", "no home"]);
}

#[tokio::test]
async fn a_missing_program_is_an_error_that_names_it() {
    let spawner = Spawner::start().unwrap();
    let command = Command { program: "/nonexistent/program".into(), ..shell("", Path::new("/")) };
    let error = spawner.spawn(command).await.unwrap_err();
    assert!(matches!(&error, Error::Start { .. }));
    assert_eq!(error.to_string(), "cannot start /nonexistent/program");
}

#[tokio::test]
async fn a_stop_ends_with_the_first_signal_that_is_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    let mut child = start_and_wait_ready(UNTIL_INTERRUPTED, dir.path(), &spawner).await;
    let status = child.stop(&[(Signal::SIGINT, PATIENCE)]).await;
    assert_eq!(status.code(), Some(3));
    assert_eq!(child.exit_status(), Some(status));
}

#[tokio::test]
async fn a_child_that_obeys_nothing_is_killed_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    let script = "trap '' INT TERM; (trap '' INT TERM; echo $$ > group; touch ready; while :; do sleep 0.02; done) & wait; \
                  while :; do sleep 0.02; done";
    let mut child = start_and_wait_ready(script, dir.path(), &spawner).await;
    let group = child.pid();
    let status = child.stop(&[(Signal::SIGINT, Duration::from_millis(50))]).await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGKILL as i32));
    timeout(PATIENCE, async {
        // Zombies whose parent died are reaped by init, in its own time.
        while nix::sys::signal::killpg(group, None).is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the whole group ends");
}

#[tokio::test]
async fn a_dropped_handle_stops_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    drop(start_and_wait_ready(UNTIL_INTERRUPTED, dir.path(), &spawner).await);
    appears(&dir.path().join("interrupted")).await;
}

/// The kernel sends the death signal when the thread ends, however it ends: here with the last handle to it, in a
/// killed agent with the process (`cluster::a_killed_agent_leaves_nothing_running`).
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_end_of_the_spawners_thread_sends_the_death_signal() {
    let dir = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    let child = start_and_wait_ready(UNTIL_INTERRUPTED, dir.path(), &spawner).await;
    drop(spawner);
    appears(&dir.path().join("interrupted")).await;
    drop(child);
}
