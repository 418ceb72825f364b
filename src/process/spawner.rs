//! The one thread that starts and reaps children.

use std::io;
use std::process::Stdio;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::child::{self, Child};
use super::{Command, Error, Finished, Signal};
use crate::telemetry::tasks::Tasks;

/// How many starts may wait for the thread; each takes about a millisecond.
const QUEUE_LENGTH: usize = 16;

/// Starts children on its own thread. Clones share the thread, which ends with the last of them.
///
/// When the thread ends, for whatever reason, the kernel sends every child its death signal.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    command: Command,
    reply: oneshot::Sender<Result<Child, Error>>,
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system allows no more threads or descriptors.
    pub fn start() -> io::Result<Self> {
        let (requests, mut queue) = mpsc::channel::<Request>(QUEUE_LENGTH);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("spawner".into()).spawn(move || {
            let tasks = Tasks::new();
            runtime.block_on(async {
                while let Some(request) = queue.recv().await {
                    let started = start(&request.command, &tasks);
                    // Nobody waits any more: the dropped handle stops the child again.
                    let _ = request.reply.send(started);
                }
            });
        })?;
        Ok(Self { requests })
    }

    /// Starts `command` as the leader of its own process group.
    ///
    /// # Errors
    /// [`Error::Start`] where the program cannot be run; [`Error::Stopped`] while the agent ends.
    ///
    /// # Cancellation
    /// A child that starts after the future is dropped gets its death signal at once.
    pub async fn spawn(&self, command: Command) -> Result<Child, Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { command, reply }).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Runs `command` to its end.
    ///
    /// # Errors
    /// As [`Spawner::spawn`]; a command that fails is not an error but a status.
    ///
    /// # Cancellation
    /// The child gets its death signal.
    pub async fn run(&self, command: Command) -> Result<Finished, Error> {
        let mut child = self.spawn(command).await?;
        let status = child.exited().await;
        Ok(Finished { status, tail: child.tail() })
    }
}

/// Starts one child and its keeper task; runs on the spawner's thread.
fn start(command: &Command, tasks: &Tasks) -> Result<Child, Error> {
    let mut process = tokio::process::Command::new(&command.program);
    process
        .args(&command.args)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&command.current_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that a Ctrl-C in the terminal reaches only the agent, which then stops things in order.
        .process_group(0);
    if let Some((uid, gid)) = command.user {
        process.uid(uid.as_raw()).gid(gid.as_raw());
    }
    die_with_the_agent(&mut process, command.death_signal);
    let source = |source| Error::Start { program: command.program.clone(), source };
    let process = process.spawn().map_err(source)?;
    Ok(child::keep(process, command, tasks))
}

/// Arranges that the kernel sends `signal` to the child when this thread ends.
#[cfg(target_os = "linux")]
fn die_with_the_agent(process: &mut tokio::process::Command, signal: Signal) {
    use nix::errno::Errno;
    use nix::unistd::{getpid, getppid};

    let agent = getpid();
    let set = move || {
        // The standard library runs this after it has changed the user; a change of user would clear the signal again.
        nix::sys::prctl::set_pdeathsig(signal)?;
        // The agent may have died between the fork and the line above; then nobody would ever send the signal.
        if getppid() == agent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    #[expect(unsafe_code, reason = "a death signal can only be set by the child itself")]
    // SAFETY: between fork and exec only async-signal-safe functions may be called and nothing may be allocated. The
    // closure makes two system calls, prctl and getppid, and an error made of a number does not allocate.
    unsafe {
        process.pre_exec(set);
    }
}

/// Other kernels have no death signal: there a killed agent leaves its children to the next start.
#[cfg(not(target_os = "linux"))]
fn die_with_the_agent(_process: &mut tokio::process::Command, _signal: Signal) {}
