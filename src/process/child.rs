//! A running child: its exit status, signals to it, and its ordered stop.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{kill, killpg};
use tokio::sync::{mpsc, watch};

use super::output::{Tail, pump};
use super::{Command, Pid, Signal};
use crate::telemetry::tasks::Tasks;

/// How many signals may wait for the keeper task; a stop sends three.
const SIGNAL_QUEUE_LENGTH: usize = 8;

/// How long the output of an ended child is read on: a grandchild may hold the pipe open for ever.
const OUTPUT_LINGER: Duration = Duration::from_millis(200);

/// Signals that ask ever louder, each with the time that the child has to obey it. SIGKILL to its group comes last.
pub type Escalation<'a> = &'a [(Signal, Duration)];

/// The handle of a running child. Dropping it sends the child's group its death signal.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    pid: Pid,
    signals: mpsc::Sender<Delivery>,
    exit: watch::Receiver<Option<ExitStatus>>,
    tail: Tail,
}

#[derive(Clone, Copy, Debug)]
enum Delivery {
    Process(Signal),
    Group(Signal),
}

impl Child {
    /// The child's process id; also its process group's.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the child's last lines on either stream, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.tail.lines()
    }

    /// Returns how the child ended, or `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for the child's end. Its output up to then has been logged.
    ///
    /// # Cancellation
    /// Nothing is lost: the next call answers the same.
    pub async fn exited(&mut self) -> ExitStatus {
        match self.exit.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // The spawner's thread is gone, so the kernel has sent the death signal and nobody can reap any more.
            Ok(None) | Err(_) => ExitStatus::from_raw(Signal::SIGKILL as i32),
        }
    }

    /// Sends `signal` to the child itself; an ended child is left alone, so a reused pid is never hit.
    pub fn signal(&self, signal: Signal) {
        self.deliver(Delivery::Process(signal));
    }

    /// Stops the child: each step's signal, then its time to obey; SIGKILL to the whole group at the end.
    pub async fn stop(&mut self, escalation: Escalation<'_>) -> ExitStatus {
        for &(signal, patience) in escalation {
            self.signal(signal);
            if let Ok(status) = tokio::time::timeout(patience, self.exited()).await {
                return status;
            }
            log::warn!(pid = self.pid.as_raw(); "{} did not stop within {patience:?} of {signal}", self.name);
        }
        self.deliver(Delivery::Group(Signal::SIGKILL));
        self.exited().await
    }

    fn deliver(&self, delivery: Delivery) {
        // Full only when the spawner's thread hangs, closed when the child has ended: in neither case is there more to do.
        let _ = self.signals.try_send(delivery);
    }
}

/// Makes the handle of `process` and starts its keeper: the one task that signals and reaps it.
pub(super) fn keep(mut process: tokio::process::Child, command: &Command, tasks: &Tasks) -> Child {
    let (name, level, death_signal) = (command.name, command.level, command.death_signal);
    // A child that was just started has not been reaped, so it has an id; ids fit in i32 on every Unix.
    let id = process.id().and_then(|id| i32::try_from(id).ok()).expect("a started child has an id");
    let pid = Pid::from_raw(id);
    let (signals, mut deliveries) = mpsc::channel(SIGNAL_QUEUE_LENGTH);
    let (exit_sender, exit) = watch::channel(None);
    let tail = Tail::default();

    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let tails = (tail.clone(), tail.clone());
    let output = tasks.spawn(async move {
        let stdout = async {
            if let Some(stream) = stdout {
                pump(stream, name, level, tails.0).await
            }
        };
        let stderr = async {
            if let Some(stream) = stderr {
                pump(stream, name, level, tails.1).await
            }
        };
        tokio::join!(stdout, stderr);
    });
    tasks.spawn(async move {
        let status = loop {
            tokio::select! {
                status = process.wait() => break status,
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => send(pid, delivery),
                    None => {
                        send(pid, Delivery::Group(death_signal));
                        break process.wait().await;
                    }
                },
            }
        };
        // What the leader leaves behind in its group ends with it. The kernel does not reuse the id while the group
        // has members; that it does so within the instant since the reaping would need all other ids to be used up.
        let _ = killpg(pid, Signal::SIGKILL);
        let abort = output.abort_handle();
        if tokio::time::timeout(OUTPUT_LINGER, output).await.is_err() {
            abort.abort();
        }
        let status = status.unwrap_or_else(|_| ExitStatus::from_raw(Signal::SIGKILL as i32));
        log::debug!(pid = id; "{name} ended: {status}");
        exit_sender.send_replace(Some(status));
    });
    Child { name, pid, signals, exit, tail }
}

/// Sends a signal to a child that has not been reaped yet, which is what makes its id its own.
fn send(pid: Pid, delivery: Delivery) {
    let sent = match delivery {
        Delivery::Process(signal) => kill(pid, signal),
        Delivery::Group(signal) => killpg(pid, signal),
    };
    if let Err(error) = sent {
        log::debug!(pid = pid.as_raw(); "cannot signal child {pid}: {error}");
    }
}
