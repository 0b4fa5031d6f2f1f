//! A root like OpenWrt's: the package's files are laid into it, its init script starts, reloads and stops the
//! daemon under BusyBox's shell, and the LAN's traffic is bonded meanwhile.
//!
//! The root is this machine's with a few folders laid over, in the router's mount namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_control::{Role, Status};
use wanbond_e2e::{PATIENCE, QUICK, http, lab, wait_until};
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, origin};
use wanbond_lab::{KernelState, Lab, find_binary};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of an `.ipk` whose program is the real one, and what is OpenWrt's own beside them.
fn unpacked() -> TempDir {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("bin/x86_64")).unwrap();
    let real = find_binary("wanbond").expect("the daemon is built");
    let program = format!("#!/bin/sh\nexec {} \"$@\"\n", real.display());
    fs::write(at("bin/x86_64/wanbond"), program).unwrap();
    fs::create_dir(at("root")).unwrap();
    let done = Command::new("sh")
        .arg("-ec")
        .arg(
            "bash \"$1/cross/package.sh\" --bin \"$2/bin\" --out \"$2/feeds\" x86_64\n\
             tar -xzOf \"$2\"/feeds/24.10/x86_64/wanbond_*.ipk ./data.tar.gz | tar -xzC \"$2/root\"\n\
             mv \"$2/root/lib/\"* \"$2/root/usr/lib/\" 2>/dev/null || mv \"$2/root/lib\" \"$2/root/usr/lib\"",
        )
        .args(["sh".as_ref(), source().as_os_str(), folder.path().as_os_str()])
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .expect("sh runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::create_dir(at("root/etc/rc.d")).unwrap();
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rc.common");
    fs::copy(stand_in, at("root/etc/rc.common")).unwrap();
    std::os::unix::fs::symlink("busybox", at("root/usr/bin/sh")).unwrap();
    folder
}

/// The package on the lab's router.
struct Installed<'a> {
    lab: &'a Lab,
    _folder: TempDir,
}

impl<'a> Installed<'a> {
    fn new(lab: &'a Lab) -> Self {
        let folder = unpacked();
        let installed = Self { lab, _folder: folder };
        let root = installed._folder.path().join("root");
        installed.shell(&format!(
            "for part in etc usr; do\n\
             mkdir -p /run/over/$part/up /run/over/$part/work\n\
             mount -t overlay over -o lowerdir={root}/$part:/$part,upperdir=/run/over/$part/up,workdir=/run/over/$part/work /$part\n\
             done",
            root = root.display()
        ));
        installed
    }

    fn shell(&self, script: &str) -> String {
        let done = self.lab.router(0).ns().output("busybox", &["ash", "-ec", script]).unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn init(&self, action: &str) {
        self.shell(&format!("/etc/init.d/wanbond {action}"));
    }

    /// Adds to the configuration, in place of `uci set` and `uci commit`.
    fn configure(&self, text: &str) {
        let from = self.lab.dir().join("configuration");
        fs::write(&from, text).unwrap();
        self.shell(&format!("cat {} > /etc/config/wanbond", from.display()));
    }

    fn wait(&self, what: &str, is_it: impl Fn(&Status) -> bool) -> Status {
        self.lab.router(0).wait_status(PATIENCE, what, is_it).unwrap()
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // A failed test leaves nobody to stop it.
        let _ = self.lab.router(0).ns().output(
            "sh",
            &["-c", "[ ! -e /run/procd-wanbond ] || kill -9 $(cat /run/procd-wanbond)"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_configured_started_reloaded_and_stopped() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let router = Installed::new(&lab);
    let before = KernelState::capture(lab.router(0).ns()).unwrap();

    // As it comes: it runs, touches nothing, and answers.
    router.init("enable");
    assert_eq!(router.shell("readlink /etc/rc.d/S95wanbond").trim(), "../init.d/wanbond");
    router.init("start");
    let first = router.wait("it answers", |_| true);
    assert!(!first.enabled);

    let mut config = lab.router(0).pair().unwrap();
    router.configure(&config.to_uci());
    router.init("reload");
    router.wait("connected, two WANs up", |status| {
        let up =
            |wan: &wanbond_control::status::WanStatus| wan.state == wanbond_control::WanState::Up;
        status.wans.len() == 2 && status.wans.iter().all(up) && status.lanes.idle > 0
    });
    let got = download(lab.lan(0), &Download::new(http(), 500_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    assert!(lab.router(0).status().unwrap().flows.total > 0, "it went through the daemon");

    // A role changes under a connection.
    let echo = (ORIGIN_V4, origin::ECHO).into();
    let mut held = timeout(PATIENCE, lab.lan(0).tcp_connect(echo)).await.unwrap().unwrap();
    let mut byte = [0];
    config.wans[1].1 = "backup".into();
    router.configure(&config.to_uci());
    router.init("reload");
    router.wait("the other role", |status| status.wans[1].role == Role::Backup);
    held.write_all(b"?").await.unwrap();
    timeout(PATIENCE, held.read_exact(&mut byte)).await.unwrap().unwrap();

    // What is wrong is refused, and the daemon goes on.
    router.configure("config wanbond 'globals'\n\toption enabled 'perhaps'\n");
    assert!(lab.router(0).ns().output("/etc/init.d/wanbond", &["reload"]).is_err());
    assert_eq!(lab.router(0).status().unwrap().wans[1].role, Role::Backup);

    // fw4 restarts.
    let tables = || router.shell("nft list tables");
    lab.router(0).ns().nft("flush ruleset\ntable inet fw4 {}\n").unwrap();
    wait_until("our table is there again", || tables().contains("table inet wanbond\n")).await;
    held.write_all(b"!").await.unwrap();
    timeout(PATIENCE, held.read_exact(&mut byte)).await.unwrap().unwrap();

    drop(held);
    router.init("stop");
    assert!(lab.router(0).status().is_err(), "nobody answers");
    assert_eq!(tables(), "table inet fw4\n");
    let now = KernelState::capture(lab.router(0).ns()).unwrap();
    let mut left = now.changes_since(&before);
    // That restart took the lab's own rules along.
    left.retain(|change| !change.contains(" nft "));
    assert!(left.is_empty(), "{left:?}");
}
