//! The right to make network namespaces: root has it, others get it in a user namespace where the
//! system allows that.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// There is no way to make network namespaces here.
#[derive(Debug, thiserror::Error)]
#[error(
    "needs the right to make network namespaces: run it as root (sudo), or allow unprivileged \
     user namespaces (sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu \
     kernel.apparmor_restrict_unprivileged_userns=0) with /dev/net/tun open to all (mode 666); \
     tried: {tried}"
)]
pub struct NoPrivilege {
    tried: String,
}

/// Set in the process that was started again, so that it does not try for ever.
const MARK: &str = "WANBOND_LAB_IN_USER_NAMESPACE";

/// Makes sure that this process may build labs: if it is not root, starts it again as root of a
/// user namespace of its own, and does not return. To be called before anything else.
///
/// # Errors
/// When that is not allowed.
pub fn ensure() -> Result<(), NoPrivilege> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let failed = |tried: String| NoPrivilege { tried };
    if std::env::var_os(MARK).is_some() {
        return Err(failed("a user namespace, but it made nobody root".into()));
    }
    const FLAGS: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];
    // Tried first with something harmless, for the sake of the message.
    let trial = Command::new("unshare")
        .args(FLAGS)
        .args(["--", "test", "-w", "/dev/net/tun"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("unshare: {error}")))?;
    if !trial.status.success() {
        let said = String::from_utf8_lossy(&trial.stderr).trim().to_owned();
        let said = if said.is_empty() { "/dev/net/tun is not writable".into() } else { said };
        return Err(failed(said));
    }
    let again = || -> io::Result<io::Error> {
        let mut command = Command::new("unshare");
        command.args(FLAGS).arg("--").arg(std::env::current_exe()?);
        Ok(command.args(std::env::args_os().skip(1)).env(MARK, "1").exec())
    };
    let error = again().unwrap_or_else(|error| error);
    Err(failed(format!("unshare: {error}")))
}
