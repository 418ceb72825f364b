//! The one place where tasks start, so that the drain can ask them to stop and wait for them.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics;

/// The first and the longest pause before a task that panicked is started again; each is twice the one before.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_LONGEST: Duration = Duration::from_secs(60);

/// A group of tasks that share one stop signal. Clones are the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Makes an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `task` on the current runtime and counts it until it ends.
    #[expect(clippy::disallowed_methods, reason = "this is the tracked spawner")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(task))
    }

    /// Starts a task that the node cannot do without: what `start` returns is run to its end, and after a panic it is
    /// counted, logged and started anew, unless the group stops.
    pub fn spawn_vital<F>(&self, name: &'static str, start: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(async move {
            let mut pause = RESTART_FIRST;
            loop {
                let started = Instant::now();
                // What the task shares with others is behind locks that bear it or is made anew by `start`.
                if AssertUnwindSafe(start()).catch_unwind().await.is_ok() {
                    return;
                }
                metrics::PANICS.add(1);
                log::error!(task = name; "task {name} has panicked, starting it again");
                if started.elapsed() > RESTART_LONGEST {
                    pause = RESTART_FIRST;
                }
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                pause = RESTART_LONGEST.min(pause * 2);
            }
        });
    }

    /// The signal that tells the group's tasks to finish what they hold and end.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns a group with its own tasks whose stop signal also fires with this one's.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token() }
    }

    /// Tells all tasks to stop and waits for them, at most `deadline`. Returns how many were still running then.
    pub async fn stop(&self, deadline: Duration) -> usize {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_a_task_that_finishes_and_counts_one_that_does_not() {
        let tasks = Tasks::new();
        let stop = tasks.stopping().clone();
        tasks.spawn(async move { stop.cancelled().await });
        tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_is_started_again_after_each_panic_until_it_ends() {
        let tasks = Tasks::new();
        let panics = metrics::PANICS.get();
        let (starts, mut started) = tokio::sync::watch::channel(0);
        tasks.spawn_vital("test", move || {
            starts.send_modify(|starts| *starts += 1);
            let count = *starts.borrow();
            async move { assert!(count == 3, "start {count}") }
        });
        started.wait_for(|starts| *starts == 3).await.unwrap();
        assert!(started.changed().await.is_err(), "a task that has ended is not started again");
        assert!(metrics::PANICS.get() >= panics + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_that_panics_is_not_started_again_when_its_group_stops() {
        let tasks = Tasks::new();
        tasks.spawn_vital("test", || async { panic!("always") });
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
    }
}
