//! The one place where tasks start, so that the drain can ask them to stop and wait for them.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
}
