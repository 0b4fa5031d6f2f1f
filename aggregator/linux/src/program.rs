//! Programs that the daemons start.

use std::ffi::OsStr;

use tokio::process::Command;

/// Where programs are looked for if nobody says: OpenWrt's ujail gives a daemon no PATH, and the C library's
/// own default leaves out the folders of nft and dnsmasq.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that starts `name`, found and finding others whatever environment the daemon was given.
#[must_use]
pub fn program(name: &str) -> Command {
    with_path(name, std::env::var_os("PATH").as_deref())
}

fn with_path(name: &str, given: Option<&OsStr>) -> Command {
    let mut command = Command::new(name);
    if given.is_none_or(OsStr::is_empty) {
        command.env("PATH", PATH);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_path_there_is_one() {
        let path = |given: Option<&str>| {
            let command = with_path("nft", given.map(OsStr::new));
            let mut set = command
                .as_std()
                .get_envs()
                .map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned)));
            set.next()
        };
        let ours = Some(("PATH".into(), Some(PATH.into())));
        assert_eq!(path(None), ours);
        assert_eq!(path(Some("")), ours);
        assert_eq!(path(Some("/opt/bin")), None);
    }
}
