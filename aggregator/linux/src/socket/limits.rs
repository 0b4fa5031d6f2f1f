//! How many descriptors the process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

/// Enough for tens of thousands of flows at two descriptors each.
const WANTED: u64 = 1 << 17;

/// Raises the limit of open descriptors as far as is useful and allowed, and returns what it now
/// is. Fails silently: the daemons size their connection limits from the number returned.
pub fn raise_nofile_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // POSIX promises 20; every Linux gives at least this.
        return 1024;
    };
    // rlim_t is 32 or 64 bits wide, depending on the C library and the machine.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let wanted = libc::rlim_t::try_from(WANTED).unwrap_or(libc::rlim_t::MAX);
    if soft >= wanted {
        return soft.into();
    }
    // Root may go beyond the hard limit (OpenWrt's default is 4096), up to fs.nr_open.
    if geteuid().is_root() && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return wanted.into();
    }
    let reachable = hard.min(wanted);
    match setrlimit(Resource::RLIMIT_NOFILE, reachable, hard) {
        Ok(()) => reachable.into(),
        Err(_) => soft.into(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn never_falls() {
        let first = super::raise_nofile_limit();
        assert!(first >= 256);
        assert_eq!(super::raise_nofile_limit(), first);
    }
}
