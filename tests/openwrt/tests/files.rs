//! The files that packages put on a router.

mod uci;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Enough of OpenWrt's rc.common and procd.sh to see what the init script asks of them.
const RC_COMMON: &str = r#"
procd_open_instance() { echo open; }
procd_set_param() { echo "set $*"; }
procd_add_jail() { echo "jail $*"; }
procd_close_instance() { echo close; }
procd_add_reload_trigger() { echo "trigger $*"; }
running() { [ -n "$RUNNING" ]; }
logger() { sed 's/^/log /'; }
start() { start_service; }
. "$INIT"
PROG="$STAND_IN"
UJAIL="$STAND_IN"
CAPABILITIES="$RIGHTS"
"$@"
"#;

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openwrt/wanbond/files")
}

/// Calls a function of the init script, with a program that finds the configuration right or wrong.
fn init(function: &str, right: bool, running: &str) -> (Output, String) {
    let folder = TempDir::new().unwrap();
    let calls = folder.path().join("calls");
    let program = folder.path().join("wanbond");
    let verdict = if right { "exit 0" } else { "echo 'line 3: wrong' >&2; exit 1" };
    let text = format!("#!/bin/sh\necho \"$*\" >> {}\n{verdict}\n", calls.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let done = Command::new("sh")
        .args(["-c", RC_COMMON, "rc.common", function])
        .env("INIT", files().join("etc/init.d/wanbond"))
        .env("STAND_IN", &program)
        .env("RUNNING", running)
        .env("RIGHTS", files().join("etc/capabilities/wanbond.json"))
        .output()
        .expect("sh runs");
    (done, fs::read_to_string(calls).unwrap_or_default())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_right_configuration_is_started() {
    let (done, calls) = init("start_service", true, "");
    assert!(done.status.success());
    assert_eq!(calls, "check\n");
    let said = said(&done);
    for line in [
        "/wanbond run --wait",
        "set file /etc/config/wanbond",
        "set reload_signal HUP",
        "jail wanbond",
        "etc/capabilities/wanbond.json",
        "set no_new_privs 1",
        "close",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
}

#[test]
fn a_wrong_one_is_told_and_waited_for_and_keeps_out_of_a_running_daemon() {
    let (done, _) = init("start_service", false, "");
    assert!(done.status.success());
    let text = said(&done);
    assert!(text.starts_with("log line 3: wrong\nopen\n") && text.contains("run --wait"), "{text}");
    let (done, _) = init("reload_service", false, "1");
    assert!(!done.status.success());
    assert_eq!(said(&done), "log line 3: wrong\n");
}

#[test]
fn what_a_killed_daemon_left_is_cleaned_up() {
    let (done, calls) = init("service_stopped", true, "");
    assert!(done.status.success());
    assert_eq!(calls, "cleanup\n");
    assert_eq!(said(&init("service_triggers", true, "").0), "trigger wanbond\n");
}

#[test]
fn fw4_understands_what_is_put_into_its_chains() {
    let chains = files().join("usr/share/nftables.d/chain-pre");
    let mut text = "table inet fw4 {\n".to_owned();
    for chain in ["forward", "input"] {
        let pieces = chains.join(chain).join("*.nft");
        text += &format!(
            "chain {chain} {{\ntype filter hook {chain} priority filter; policy drop;\n\
             include \"{}\"\n}}\n",
            pieces.display()
        );
    }
    text += "}\n";
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fw4.nft");
    fs::write(&path, text).unwrap();
    // In a namespace of its own; nothing is set, only checked.
    let done = Command::new("unshare")
        .args(["--net", "nft", "--check", "--file"])
        .arg(&path)
        .output()
        .expect("unshare runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What uci-defaults makes of a configuration, with OpenWrt's own `uci`.
fn after_uci_defaults(config: Option<&str>) -> String {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("wanbond");
    if let Some(config) = config {
        fs::write(&file, config).unwrap();
    }
    // It knows the folder of configurations by an argument only.
    let program = folder.path().join("bin/uci");
    fs::create_dir(folder.path().join("bin")).unwrap();
    let call = format!(
        "#!/bin/sh\nexec {} -c {folder} -t {folder}/changes \"$@\"\n",
        uci::uci().display(),
        folder = folder.path().display()
    );
    fs::write(&program, call).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let script = fs::read_to_string(files().join("etc/uci-defaults/90-wanbond")).unwrap();
    let script = script.replace("/etc/config/wanbond", &file.display().to_string());
    let path = std::env::var("PATH").unwrap_or_default();
    let done = Command::new("busybox")
        .args(["ash", "-c", &script])
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .env("IPKG_INSTROOT", "/somewhere/else")
        .output()
        .expect("busybox runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read_to_string(file).unwrap()
}

#[test]
fn uci_defaults_leave_a_configuration_alone() {
    for config in [
        "# mine\nconfig wanbond 'globals'\n\toption enabled '1'\n",
        "config wanbond\n\toption enabled '1'\n",
        "config wanbond 'other'\n\tlist lan 'guest'\n",
        include_str!("../../../openwrt/wanbond/files/etc/config/wanbond"),
    ] {
        assert_eq!(after_uci_defaults(Some(config)), config);
    }
}

#[test]
fn uci_defaults_add_what_luci_needs_where_it_is_missing() {
    let globals = "config wanbond 'globals'\n\toption enabled '0'\n\tlist lan 'lan'\n";
    for config in [None, Some("")] {
        assert_eq!(after_uci_defaults(config).trim_start(), format!("{globals}\n"));
    }
    let wans = after_uci_defaults(Some("config wan 'fibre'\n\toption interface 'wan'\n"));
    assert!(wans.contains("config wan 'fibre'\n\toption interface 'wan'\n"), "{wans}");
    assert!(wans.contains(globals), "{wans}");
}
