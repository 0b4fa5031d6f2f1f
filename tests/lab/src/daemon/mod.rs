//! The real daemons in their namespaces.

mod kernel_state;
mod process;
mod router;
mod server;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::LabError;
use crate::ns::Namespace;

pub use kernel_state::KernelState;
pub(crate) use process::tail;
pub use process::{Usage, find_binary};
pub(crate) use router::RouterNode;
pub use router::{Router, RouterConfig};
pub use server::Server;
pub(crate) use server::ServerNode;

/// How long a daemon may take to answer after its start, on a busy machine.
const READY: Duration = Duration::from_secs(15);
/// How long a daemon may take to end after SIGTERM, on a busy machine.
const GRACE: Duration = Duration::from_secs(15);

/// Runs a short command of a daemon's program and gives what it printed.
fn run_cli(
    ns: &Namespace,
    binary: &Path,
    args: impl FnOnce(&mut Command),
) -> Result<String, LabError> {
    let mut command = Namespace::command(binary);
    args(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let fail = |log: String| LabError::Daemon { what: format!("{shown} failed"), log };
    let output = ns
        .spawn(command)
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(fail(String::from_utf8_lossy(&said).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
