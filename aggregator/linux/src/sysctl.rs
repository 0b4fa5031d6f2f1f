//! Kernel settings: changed with the old value written down, and put back.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::owned::{Changed, Journal, JournalError};

/// A setting can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The kernel says no, or has no such setting (`NotFound`).
    #[error("can't {action} {name}: {source}")]
    Refused {
        /// `read` or `set`.
        action: &'static str,
        /// The setting.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not the name of a setting.
    #[error("`{0}` is no name of a setting")]
    BadName(String),
    /// The old value could not be written down first.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Reads a setting, such as `net.mptcp.enabled`. Several values are separated by one space.
///
/// A name with slashes is taken as it is, for interfaces with dots in their names:
/// `net/ipv4/conf/eth0.7/rp_filter`.
///
/// # Errors
/// When there is no such setting or no right to read it.
pub fn get(name: &str) -> Result<String, SysctlError> {
    let path = path(name)?;
    let text = fs::read_to_string(path).map_err(refused("read", name))?;
    Ok(normal(&text))
}

/// Sets a setting and writes its old value down, unless it has the value already. Returns whether
/// it was changed.
///
/// # Errors
/// When there is no such setting (many depend on the kernel's version) or no right to set it.
/// Never a reason to stop.
pub fn set(journal: &Journal, name: &str, value: &str) -> Result<bool, SysctlError> {
    let before = get(name)?;
    let value = normal(value);
    if before == value {
        return Ok(false);
    }
    let key = name_with_slashes(name);
    journal.update(|record| {
        // The value before us is the first one written down.
        let before = record.sysctls.remove(&key).map_or(before, |changed| changed.before);
        record.sysctls.insert(key.clone(), Changed { before, ours: value.clone() });
    })?;
    write(name, &value)?;
    Ok(true)
}

/// As [`set`], for several; returns what failed.
#[must_use]
pub fn set_all(journal: &Journal, settings: &[(&str, &str)]) -> Vec<SysctlError> {
    settings.iter().filter_map(|(name, value)| set(journal, name, value).err()).collect()
}

/// Puts back every value in the journal that is still what we made it. Returns how many, and what
/// failed.
pub fn restore(journal: &Journal) -> (usize, Vec<SysctlError>) {
    restore_those(journal, |_| true)
}

/// As [`restore`], of the settings for which `wanted` says so; names are with slashes.
pub fn restore_those(
    journal: &Journal,
    wanted: impl Fn(&str) -> bool,
) -> (usize, Vec<SysctlError>) {
    let mut restored = 0;
    let mut errors = Vec::new();
    for (name, changed) in journal.read(|record| record.sysctls.clone()) {
        if !wanted(&name) {
            continue;
        }
        let result = match get(&name) {
            // Somebody has turned forwarding on for every device since, and needs it.
            Ok(_)
                if is_forwarding_v4(&name)
                    && get("net/ipv4/ip_forward").is_ok_and(|v| v == "1") =>
            {
                Ok(())
            }
            Ok(now) if now == changed.ours => write(&name, &changed.before).map(|()| restored += 1),
            // Changed by somebody else since, or gone with its device.
            Ok(_) => Ok(()),
            Err(SysctlError::Refused { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        };
        let result = result.and_then(|()| {
            journal.update(|record| drop(record.sysctls.remove(&name)))?;
            Ok(())
        });
        errors.extend(result.err());
    }
    (restored, errors)
}

/// Whether this lets one device's packets be passed on.
fn is_forwarding_v4(name: &str) -> bool {
    name.strip_prefix("net/ipv4/conf/").is_some_and(|rest| rest.ends_with("/forwarding"))
}

fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(path(name)?, value).map_err(refused("set", name))
}

fn refused(action: &'static str, name: &str) -> impl FnOnce(io::Error) -> SysctlError {
    let name = name.to_owned();
    move |source| SysctlError::Refused { action, name, source }
}

fn name_with_slashes(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { name.replace('.', "/") }
}

fn path(name: &str) -> Result<PathBuf, SysctlError> {
    let relative = PathBuf::from(name_with_slashes(name));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain {
        return Err(SysctlError::BadName(name.to_owned()));
    }
    Ok(Path::new("/proc/sys").join(relative))
}

/// The kernel separates several values by tabs and ends with a newline.
fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let shown = |name: &str| path(name).map(|path| path.display().to_string()).ok();
        assert_eq!(shown("net.mptcp.enabled").unwrap(), "/proc/sys/net/mptcp/enabled");
        assert_eq!(
            shown("net/ipv4/conf/eth0.7/rp_filter").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.7/rp_filter"
        );
        for name in ["", "/etc/passwd", "../../etc/passwd", "net/../../x"] {
            assert_eq!(shown(name), None, "{name}");
        }
    }

    #[test]
    fn several_values_are_read_with_single_spaces() {
        assert_eq!(get("net.ipv4.tcp_rmem").unwrap().split(' ').count(), 3);
    }
}
