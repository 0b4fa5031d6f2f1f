//! A root like OpenWrt's: the package's files are laid into it, its init script starts, reloads and stops the
//! daemon under BusyBox's shell, OpenWrt's own `uci` writes its configuration, and the LAN's traffic is bonded
//! meanwhile.
//!
//! The root is this machine's with a few folders laid over, in the router's mount namespace.

mod uci;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_control::{Role, Status};
use wanbond_e2e::{PATIENCE, QUICK, carried, http, lab, wait_until};
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, origin};
use wanbond_lab::{KernelState, Lab, RouterConfig, find_binary};

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
    fs::copy(uci::uci(), at("root/usr/bin/uci")).unwrap();
    // There is a jail; the stand-in for rc.common makes it.
    fs::create_dir(at("root/usr/sbin")).unwrap();
    fs::write(at("root/usr/sbin/ujail"), "").unwrap();
    fs::set_permissions(at("root/usr/sbin/ujail"), fs::Permissions::from_mode(0o755)).unwrap();
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
             done\n\
             mkdir -p /tmp/.uci\n\
             mount -t tmpfs uci /tmp/.uci",
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

    /// Lines for `uci batch`, which are then committed.
    fn uci(&self, lines: &str) {
        self.shell(&format!("uci batch <<'END'\n{lines}\ncommit wanbond\nEND"));
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

/// What one types to set a router up, or LuCI in one's place, beginning with what the package brings.
fn settings(config: &RouterConfig) -> String {
    let mut lines = format!(
        "set wanbond.globals.enabled=1\ndelete wanbond.globals.lan\nadd_list wanbond.globals.lan='{}'\n\
         set wanbond.vps=server\nset wanbond.vps.code='{}'\n",
        config.lan, config.code
    );
    for (device, role) in &config.wans {
        let _ = write!(
            lines,
            "set wanbond.{device}=wan\nset wanbond.{device}.device={device}\n\
             set wanbond.{device}.role={role}\n"
        );
    }
    lines
}

/// Downloads until each WAN has carried a real share.
async fn is_bonded(lab: &Lab) {
    let now = || ["wan1", "wan2"].map(|wan| carried(lab, wan).0);
    let before = now();
    while !now().iter().zip(before).all(|(now, before)| *now > before + 1_000_000) {
        let got = download(lab.lan(0), &Download::new(http(), 4_000_000)).await;
        assert!(got.is_sound() && got.complete, "{got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_configured_started_reloaded_and_stopped() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let router = Installed::new(&lab);
    let before = KernelState::capture(lab.router(0).ns()).unwrap();

    // As it comes: it runs, touches nothing, and answers.
    let shipped = fs::read(source().join("openwrt/wanbond/files/etc/config/wanbond")).unwrap();
    router.shell("sh /etc/uci-defaults/90-wanbond");
    let there = router.shell("cat /etc/config/wanbond");
    assert_eq!(there.as_bytes(), shipped, "a configuration that is there is left alone");
    router.init("enable");
    assert_eq!(router.shell("readlink /etc/rc.d/S95wanbond").trim(), "../init.d/wanbond");
    router.init("start");
    let first = router.wait("it answers", |_| true);
    assert!(!first.enabled);
    let jailed = router.shell("grep -E 'CapEff|NoNewPrivs' /proc/$(cat /run/procd-wanbond)/status");
    assert_eq!(
        jailed.split_whitespace().collect::<Vec<_>>(),
        ["CapEff:", "000000000008302b", "NoNewPrivs:", "1"]
    );

    router.uci(&settings(&lab.router(0).pair().unwrap()));
    let exported = lab.dir().join("exported");
    let [meant, read] = ["/etc/config/wanbond", &exported.display().to_string()].map(|file| {
        router.shell(&format!(
            "uci export wanbond > {}; wanbond --config {file} check",
            exported.display()
        ))
    });
    assert_eq!(meant, read, "what uci exports means the same");
    router.init("reload");
    router.wait("connected, two WANs up, lanes over both", |status| {
        let ready = |wan: &wanbond_control::status::WanStatus| {
            wan.state == wanbond_control::WanState::Up && wan.lanes > 0
        };
        status.wans.len() == 2 && status.wans.iter().all(ready) && status.lanes.idle > 0
    });
    timeout(PATIENCE, is_bonded(&lab)).await.expect("both WANs carry the LAN's traffic");
    assert!(lab.router(0).status().unwrap().flows.total > 0, "it went through the daemon");

    // A role changes under a connection.
    let echo = (ORIGIN_V4, origin::ECHO).into();
    let mut held = timeout(PATIENCE, lab.lan(0).tcp_connect(echo)).await.unwrap().unwrap();
    let mut byte = [0];
    router.uci("set wanbond.wan2.role=backup");
    router.init("reload");
    router.wait("the other role", |status| status.wans[1].role == Role::Backup);
    held.write_all(b"?").await.unwrap();
    timeout(PATIENCE, held.read_exact(&mut byte)).await.unwrap().unwrap();

    // What is wrong is refused, and the daemon goes on.
    router.uci("set wanbond.globals.enabled=perhaps");
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
