//! The kernel's settings that the server wants, put back at its end.

use tracing::{debug, info, warn};
use wanbond_linux::mptcp_pm::{Limits, PathManager, PmError};
use wanbond_linux::owned::{Journal, Owner, cleanup};
use wanbond_linux::sysctl;

/// A kernel may lack some; none is needed to work.
const SETTINGS: &[(&str, &str)] = &[
    // A lane that has idled keeps its congestion window (RFC 2861 would halve it).
    ("net.ipv4.tcp_slow_start_after_idle", "0"),
];

/// What was changed.
pub(super) struct Settings(Option<Journal>);

impl Settings {
    /// Changes what may be changed. Without the right to, the server works on with less.
    pub(super) async fn apply() -> Self {
        let journal = match Journal::open(Owner::Server) {
            Ok(journal) => journal,
            Err(error) => {
                warn!(%error, "kernel settings are left as they are");
                return Self(None);
            }
        };
        let left = cleanup(&journal).await;
        if !left.is_noop() {
            info!(%left, "cleaned up after a run that did not end in order");
        }
        for error in sysctl::set_all(&journal, SETTINGS) {
            debug!(%error, "setting left alone");
        }
        match PathManager::new().await {
            Ok(paths) => {
                if let Err(error) = paths.raise_limits(Limits::MAX, &journal).await {
                    warn!(%error, "MPTCP limits can't be raised: routers may not join every WAN");
                }
            }
            Err(PmError::Unsupported) => {}
            Err(error) => warn!(%error, "MPTCP limits can't be read"),
        }
        Self(Some(journal))
    }

    /// Where changes to the kernel are noted; `None` without the right to make any.
    pub(super) const fn journal(&self) -> Option<&Journal> {
        self.0.as_ref()
    }

    /// Puts everything back.
    pub(super) async fn undo(self) {
        let Some(journal) = self.0 else { return };
        let report = cleanup(&journal).await;
        if !report.errors.is_empty() {
            warn!(%report, "not all kernel settings could be put back");
        }
    }
}
