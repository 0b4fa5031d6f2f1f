//! A second core for a tunnel whose reader fills one.

use crate::boxed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::TunnelDriver;

/// Delivers and pumps beside a reader that goes on reading.
#[derive(Default)]
pub(super) struct Helper {
    /// There is a task for it: the runtime has more than one thread.
    runs: AtomicBool,
    busy: AtomicBool,
    wanted: Arc<Notify>,
}

impl Helper {
    /// Has the helper deliver and pump. `false` if it can't: there is none, or it is still at it.
    pub(super) fn takes_over(&self) -> bool {
        if !self.runs.load(Ordering::Relaxed) || self.busy.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.wanted.notify_one();
        true
    }

    /// Lets the task see that the driver is gone.
    pub(super) fn end(&self) {
        self.wanted.notify_one();
    }
}

/// Starts the task, which ends with the driver. On one core there is none: it could only take turns.
pub(super) fn run(driver: &Arc<TunnelDriver>) {
    if Handle::current().metrics().num_workers() < 2 {
        return;
    }
    driver.helper.runs.store(true, Ordering::Relaxed);
    let (weak, wanted) = (Arc::downgrade(driver), Arc::clone(&driver.helper.wanted));
    tokio::spawn(boxed(async move {
        loop {
            wanted.notified().await;
            let Some(driver) = weak.upgrade() else { return };
            driver.deliver();
            driver.pump();
            driver.helper.busy.store(false, Ordering::SeqCst);
        }
    }));
}
