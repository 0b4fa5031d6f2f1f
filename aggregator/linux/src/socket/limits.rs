//! How many descriptors the process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

/// Enough for tens of thousands of flows at two descriptors each.
const WANTED: libc::rlim_t = 1 << 17;

/// Raises the limit of open descriptors as far as is useful and allowed, and returns what it now
/// is. Fails silently: the daemons size their connection limits from the number returned.
pub fn raise_nofile_limit() -> u64 {
    // rlim_t is narrower with some C libraries.
    #[allow(clippy::useless_conversion)]
    raise().into()
}

fn raise() -> libc::rlim_t {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // What every Linux gives at least.
        return 1024;
    };
    if soft >= WANTED {
        return soft;
    }
    // Root may go beyond the hard limit (OpenWrt's default is 4096), up to fs.nr_open.
    if geteuid().is_root() && setrlimit(Resource::RLIMIT_NOFILE, WANTED, hard.max(WANTED)).is_ok() {
        return WANTED;
    }
    let reachable = hard.min(WANTED);
    match setrlimit(Resource::RLIMIT_NOFILE, reachable, hard) {
        Ok(()) => reachable,
        Err(_) => soft,
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
