//! Wakes a tunnel when time alone changes something.

use crate::boxed;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;
use wanbond_proto::Time;

use super::{TunnelDriver, lock};

/// The next time at which a tunnel is to be looked at.
#[derive(Default)]
pub(super) struct Timer {
    at: Mutex<Times>,
    sooner: Arc<Notify>,
}

#[derive(Default)]
struct Times {
    wanted: Option<Time>,
    /// The task sleeps until then; `None`: until told.
    sleeping: Option<Time>,
}

impl Timer {
    /// Sets the time. The task is woken only if it would sleep too long: waking for nothing later
    /// costs less.
    pub(super) fn set(&self, at: Option<Time>) {
        let mut times = lock(&self.at);
        times.wanted = at;
        let too_long = match (at, times.sleeping) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(at), Some(sleeping)) => at < sleeping,
        };
        if too_long {
            times.sleeping = at;
            drop(times);
            self.sooner.notify_one();
        }
    }
}

/// Starts the task, which ends with the driver.
pub(super) fn run(driver: &Arc<TunnelDriver>) {
    let (weak, sooner) = (Arc::downgrade(driver), Arc::clone(&driver.timer.sooner));
    tokio::spawn(boxed(async move {
        loop {
            let Some(wait) = next_wait(&weak) else { return };
            match wait {
                None => sooner.notified().await,
                Some(wait) => {
                    tokio::select! {
                        () = sooner.notified() => {}
                        () = tokio::time::sleep(wait) => {
                            let Some(driver) = weak.upgrade() else { return };
                            driver.on_timer(driver.clock.now());
                        }
                    }
                }
            }
        }
    }));
}

/// How long to sleep; outer `None` when the driver is gone.
fn next_wait(driver: &Weak<TunnelDriver>) -> Option<Option<std::time::Duration>> {
    let driver = driver.upgrade()?;
    let mut times = lock(&driver.timer.at);
    times.sleeping = times.wanted;
    Some(times.wanted.map(|at| at.since(driver.clock.now())))
}

impl Drop for TunnelDriver {
    fn drop(&mut self) {
        self.timer.sooner.notify_one();
        self.helper.end();
    }
}
