//! What outlives a reload that starts everything anew.

use std::sync::{Arc, Mutex, PoisonError};

use crate::task::Tasks;

/// What outlives a reload that starts everything anew.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// Long jobs. The one that runs ends with what it stands on; its document stays.
    pub(crate) tasks: Arc<Tasks>,
    problem: Mutex<String>,
}

impl Lasting {
    /// What is wrong with the configuration file; empty while nothing is.
    pub(crate) fn problem(&self) -> String {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_problem(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}
