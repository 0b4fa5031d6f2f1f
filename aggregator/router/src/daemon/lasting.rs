//! What outlives a reload that starts everything anew.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::task::Tasks;

/// What outlives a reload that starts everything anew.
#[derive(Debug)]
pub(crate) struct Lasting {
    /// Where the configuration is.
    pub(crate) config_path: PathBuf,
    /// Long jobs. The one that runs ends with what it stands on; its document stays.
    pub(crate) tasks: Arc<Tasks>,
    problem: Mutex<String>,
}

impl Lasting {
    pub(super) fn new(config_path: PathBuf) -> Self {
        Self { config_path, tasks: Arc::default(), problem: Mutex::default() }
    }

    /// What is wrong with the configuration file; empty while nothing is.
    pub(crate) fn problem(&self) -> String {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_problem(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}
