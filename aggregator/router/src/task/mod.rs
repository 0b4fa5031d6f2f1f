//! Long jobs: one at a time, begun by a request, watched by its number, cancelled by it.
//!
//! - [`pairing`]: whether a pairing code works, and over which WANs.
//! - [`speedtest`]: how fast each WAN is, and all together.
//! - [`drill`]: what connections feel when a WAN dies.
//! - [`service`]: the flows to the server that both of them measure by.
//!
//! A job is a future that gets a [`Progress`] to tell how far it is. Cancelling drops it, so whatever
//! it has set up must be undone by its drop.

pub(crate) mod drill;
pub(crate) mod pairing;
mod service;
pub(crate) mod speedtest;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wanbond_relay::boxed;

use tokio::task::AbortHandle;
use tracing::{info, warn};
use wanbond_control::request::ErrorReply;
use wanbond_control::words::{ErrorCode, TaskState};
use wanbond_control::{Task, Work};

/// The job that runs, or the last one.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: Option<Task>,
    running: Option<AbortHandle>,
}

/// How a job tells how far it is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    tasks: Arc<Tasks>,
    id: u32,
}

impl Tasks {
    /// Begins a job. `work` says of what kind it is, without a report; the job gives the same kind
    /// with one, or a sentence on why it came to nothing.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] while another runs.
    pub(crate) fn begin<F>(
        self: &Arc<Self>,
        work: Work,
        job: impl FnOnce(Progress) -> F,
    ) -> Result<Task, ErrorReply>
    where
        F: Future<Output = Result<Work, String>> + Send + 'static,
    {
        let mut inner = self.lock();
        if let Some(task) = inner.last.as_ref().filter(|task| !task.is_over()) {
            let (name, id, share) = (task.work.name(), task.id, task.progress * 100.0);
            let message = format!(
                "{name} is running (task {id}, {share:.0} % done); wait for its end, or cancel it"
            );
            return Err(ErrorReply::new(ErrorCode::Busy, message));
        }
        let id = inner.last.as_ref().map_or(0, |task| task.id).wrapping_add(1);
        info!(task = id, what = work.name(), "task begins");
        let task = Task { id, work, state: TaskState::Running, ..Task::default() };
        inner.last = Some(task.clone());
        let progress = Progress { tasks: Arc::clone(self), id };
        let ending = Ending { tasks: Arc::clone(self), id };
        let job = job(progress);
        let running = tokio::spawn(boxed(async move {
            let outcome = job.await;
            ending.tasks.end(id, outcome);
        }));
        inner.running = Some(running.abort_handle());
        Ok(task)
    }

    /// The job of this number, or the last one; ended first, if `cancel` says so.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTask`] if there is no such job any more.
    pub(crate) fn show(&self, id: Option<u32>, cancel: bool) -> Result<Task, ErrorReply> {
        if cancel {
            self.cancel(id, "it was cancelled");
        }
        let inner = self.lock();
        let task = inner.last.as_ref().filter(|task| id.is_none_or(|id| id == task.id));
        task.cloned().ok_or_else(|| {
            let message = match (id, &inner.last) {
                (_, None) => "no task has been begun yet".to_owned(),
                (id, Some(last)) => format!(
                    "there is no task {} any more; the last one is {}",
                    id.unwrap_or_default(),
                    last.id
                ),
            };
            ErrorReply::new(ErrorCode::UnknownTask, message)
        })
    }

    /// Ends the job of this number, or whichever runs.
    pub(crate) fn cancel(&self, id: Option<u32>, why: &str) {
        let mut inner = self.lock();
        let running = |task: &&mut Task| !task.is_over() && id.is_none_or(|id| id == task.id);
        if let Some(task) = inner.last.as_mut().filter(running) {
            info!(task = task.id, why, "task ended early");
            task.state = TaskState::Failed;
            why.clone_into(&mut task.error);
            if let Some(job) = inner.running.take() {
                job.abort();
            }
        }
    }

    fn end(&self, id: u32, outcome: Result<Work, String>) {
        let mut inner = self.lock();
        let Some(task) = inner.last.as_mut().filter(|task| task.id == id && !task.is_over()) else {
            return;
        };
        match outcome {
            Ok(work) => {
                task.work = work;
                task.state = TaskState::Done;
                task.progress = 1.0;
            }
            Err(why) => {
                task.state = TaskState::Failed;
                task.error = why;
            }
        }
        info!(task = id, state = %task.state, error = task.error, "task over");
        inner.running = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What it guards stays valid after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Tells that `done` (0 to 1) of it is done, and what it is at.
    pub(crate) fn tell(&self, done: f64, step: impl Into<String>) {
        let mut inner = self.tasks.lock();
        if let Some(task) = inner.last.as_mut().filter(|t| t.id == self.id && !t.is_over()) {
            task.progress = done.clamp(0.0, 1.0);
            task.step = step.into();
        }
    }
}

/// Ends a job that panics: nobody shall wait for it for ever.
struct Ending {
    tasks: Arc<Tasks>,
    id: u32,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            warn!(task = self.id, "task failed");
            self.tasks.end(self.id, Err("it failed by a fault in wanbond; see the log".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use wanbond_control::pairing::PairingReport;

    use super::*;

    fn report() -> Work {
        Work::Pairing(Some(Box::new(PairingReport::default())))
    }

    async fn over(tasks: &Tasks) -> Task {
        loop {
            let task = tasks.show(None, false).unwrap();
            if task.is_over() {
                return task;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_at_a_time_with_progress_and_a_report() {
        let tasks = Arc::new(Tasks::default());
        assert_eq!(tasks.show(None, false).unwrap_err().code, ErrorCode::UnknownTask);
        let (go, gone) = oneshot::channel::<()>();
        let begun = tasks.begin(Work::Pairing(None), |progress| async move {
            progress.tell(0.4, "fibre");
            gone.await.map_err(|error| error.to_string())?;
            Ok(report())
        });
        assert_eq!(begun.unwrap().id, 1);
        while tasks.show(Some(1), false).unwrap().step != "fibre" {
            tokio::task::yield_now().await;
        }
        let busy = tasks.begin(Work::Pairing(None), |_| async { Ok(report()) }).unwrap_err();
        assert_eq!(busy.code, ErrorCode::Busy);
        assert!(busy.message.contains("task 1, 40 % done"), "{busy}");
        go.send(()).unwrap();
        let done = over(&tasks).await;
        assert_eq!((done.state, done.progress, done.work), (TaskState::Done, 1.0, report()));
        let next = tasks.begin(Work::Pairing(None), |_| async { Err("no way".into()) }).unwrap();
        assert_eq!(next.id, 2);
        assert_eq!(tasks.show(Some(1), false).unwrap_err().code, ErrorCode::UnknownTask);
        assert_eq!(over(&tasks).await.error, "no way");
    }

    #[tokio::test]
    async fn a_cancelled_job_is_dropped() {
        let tasks = Arc::new(Tasks::default());
        let (held, dropped) = oneshot::channel::<()>();
        tasks
            .begin(Work::Pairing(None), |_| async move {
                let _held = held;
                std::future::pending::<()>().await;
                Ok(report())
            })
            .unwrap();
        // Another number's cancelling is not for it.
        assert!(tasks.show(Some(7), true).is_err());
        assert!(!tasks.show(Some(1), false).unwrap().is_over());
        let task = tasks.show(Some(1), true).unwrap();
        assert_eq!((task.state, task.error.as_str()), (TaskState::Failed, "it was cancelled"));
        assert!(dropped.await.is_err());
        assert!(tasks.begin(Work::Pairing(None), |_| async { Ok(report()) }).is_ok());
    }

    #[tokio::test]
    async fn a_job_that_panics_is_over() {
        let tasks = Arc::new(Tasks::default());
        tasks.begin(Work::Pairing(None), |_| async { panic!("on purpose") }).unwrap();
        assert!(over(&tasks).await.error.contains("fault"));
    }
}
