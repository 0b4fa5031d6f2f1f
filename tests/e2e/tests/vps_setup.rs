//! `vps-setup/install.sh` on real Debians: what it sets up bonds a router, a firewall that comes later
//! is told, a new version that fails is taken back, and in the end nothing is left behind.

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::seen_from;
use wanbond_e2e::machine::{Machine, both};
use wanbond_e2e::{PATIENCE, QUICK, all_up, carried, http, lab, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::{ORIGIN_V4, ORIGIN_V6, VPS_V4, VPS_V6};
use wanbond_lab::traffic::{Download, download};

const SETUP: &str = "bash /srv/release/install.sh";

/// The release tarball of the program under test, as `cross/release.sh` packs it.
fn tarball(lab: &Lab, arch: &str) -> PathBuf {
    let program = std::env::var_os("WANBOND_BIN_DIR").map_or_else(
        || std::env::current_exe().expect("a file").ancestors().nth(2).unwrap().to_owned(),
        PathBuf::from,
    );
    let stripped = lab.dir().join("wanbond-server");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(program.join("wanbond-server")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cross/release.sh");
    let out = lab.dir().join("release");
    run(Command::new("bash")
        .arg(script)
        .args(["--program", &format!("{arch}={}", stripped.display()), arch, "--out"])
        .arg(&out));
    let files = fs::read_dir(&out).expect("a folder").flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "gz")).expect("a tarball")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", both(&output));
}

/// A booted Debian with the release unpacked in it.
fn machine(lab: &Lab, suite: &str, more: &str) -> Machine {
    let machine = Machine::boot(lab, suite, more);
    let arch = machine.ok("uname -m").trim().to_owned();
    let release = machine.root().join("srv/release.tar.gz");
    fs::copy(tarball(lab, &arch), release).expect("copied");
    machine.ok(
        "mkdir /srv/release && tar -xzf /srv/release.tar.gz -C /srv/release --strip-components=1",
    );
    machine
}

/// The pairing code among what was printed.
fn code(printed: &str) -> String {
    let line = printed.lines().find(|line| line.starts_with("wanbond1:"));
    line.unwrap_or_else(|| panic!("no pairing code in:\n{printed}")).to_owned()
}

/// Starts the lab's router with this code and sees it bond.
async fn bonds(lab: &Lab, code: &str) {
    let router = lab.router(0);
    router.configure(&router.config(code.to_owned())).unwrap();
    lab.router(0).start().expect("the router starts");
    works(lab).await;
}

/// The router's LAN reaches the Internet over both WANs and the VPS, in lanes and in the tunnel.
async fn works(lab: &Lab) {
    all_up(lab);
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), VPS_V4);
    let before = [carried(lab, "wan1").0, carried(lab, "wan2").0];
    let done = download(lab.lan(0), &Download::new(http(), 4_000_000)).await;
    assert_eq!((done.bytes, done.error.as_deref()), (4_000_000, None));
    for (wan, before) in ["wan1", "wan2"].into_iter().zip(before) {
        // How it is shared out is other tests' business.
        assert!(carried(lab, wan).0 - before > 20_000, "{wan} carries nothing");
    }
    // Not TCP: through the tunnel, and translated by the VPS.
    wait_until("a ping through the tunnel is answered", || {
        lab.lan(0).output("ping", &["-c1", "-W2", "203.0.113.10"]).is_ok()
    })
    .await;
}

fn pid(machine: &Machine) -> String {
    machine.ok("systemctl show -P MainPID wanbond-server")
}

/// A program that says it is a new version, and fails as soon as it is to run.
fn broken_program(machine: &Machine) {
    let source = "#include <stdio.h>\n#include <string.h>\nint main(int c, char **v) {\n\
        if (c > 1 && !strcmp(v[1], \"--version\")) return puts(\"wanbond-server 99.0.0\"), 0;\n\
        for (int i = 1; i < c; i++) if (!strcmp(v[i], \"run\")) return fputs(\"no luck\\n\", stderr), 1;\n\
        return 0; }\n";
    let file = machine.root().join("srv/broken.c");
    fs::write(&file, source).unwrap();
    run(Command::new("gcc").args(["-static", "-o"]).arg(file.with_extension("")).arg(&file));
}

const RULES: &str = "flush ruleset
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname \"lo\" accept
		meta l4proto { 1, 58 } accept
		tcp dport 22 accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
	}
}
";

#[tokio::test(flavor = "multi_thread")]
async fn debian_12_and_a_firewall_of_nftables() {
    let Some(lab) = lab(QUICK) else { return };
    let vps = machine(&lab, "bookworm", "");
    // Delegated by the provider, who leads it here; what asked for it rejects what is not in use.
    vps.ok("ip -6 route add unreachable 2001:db8:77::/56");
    lab.inet().ip(&format!("route add 2001:db8:77::/56 via {VPS_V6} dev vps")).unwrap();
    let before = vps.snapshot();

    bad_input(&lab, &vps, &before);
    let shown = vps.ok(&format!("{SETUP} --dry-run"));
    assert!(shown.contains("add user wanbond-server") && shown.contains("+ProtectSystem=strict"));
    assert_eq!(vps.snapshot(), before, "a dry run changes nothing");

    let installed = vps.ok(&format!("{SETUP} --yes"));
    bonds(&lab, &code(&installed)).await;
    assert!(vps.ok("wanbond-server router show home").contains("prefix: 2001:db8:77:1::/64"));
    // Answers find back to the router's own address of it: nothing translates this.
    wait_until("a ping over IPv6 is answered", || {
        lab.lan(0).output("ping", &["-6", "-c1", "-W2", &ORIGIN_V6.to_string()]).is_ok()
    })
    .await;
    vps.ok("wanbond-setup doctor");
    let score = vps.ok("systemd-analyze security --no-pager wanbond-server | tail -n 1");
    let score: f32 = score.split(' ').find_map(|word| word.parse().ok()).expect("a score");
    assert!(score <= 2.5, "systemd-analyze security: {score}");

    // Again: nothing is done.
    let (running, set_up) = (pid(&vps), vps.snapshot());
    let again = vps.ok(&format!("{SETUP} --yes --router home"));
    assert!(!again.contains("wanbond1:"), "{again}");
    assert_eq!((pid(&vps), vps.snapshot()), (running, set_up));

    // Somebody sets up a firewall.
    vps.ok("cp -a /etc/nftables.conf /run/");
    fs::write(vps.root().join("etc/nftables.conf"), RULES).unwrap();
    vps.ok("systemctl enable --now nftables");
    let plain = vps.ok("nft -s list table inet filter");
    assert!(vps.fails("wanbond-setup doctor").contains("does not let in 65101"));
    vps.ok("wanbond-setup install --yes");
    vps.ok("wanbond-setup doctor");
    for change in ["reload", "restart"] {
        vps.ok(&format!("systemctl {change} nftables"));
        let well = || vps.shell("wanbond-setup doctor").status.success();
        wait_until(&format!("all is well again after the {change}"), well).await;
    }
    lab.router(0).stop().unwrap();
    lab.router(0).start().unwrap();
    works(&lab).await;

    // Another version, and one that fails.
    vps.ok("cp /usr/local/bin/wanbond-server /srv/next && echo >>/srv/next");
    let running = pid(&vps);
    vps.ok("wanbond-setup upgrade --yes --from /srv/next");
    assert_ne!(pid(&vps), running);
    vps.ok("cmp /usr/local/bin/wanbond-server /srv/next");
    broken_program(&vps);
    let good = vps.snapshot();
    let said = vps.fails("wanbond-setup upgrade --yes --from /srv/broken");
    assert!(said.contains("no luck") && said.contains("The version before runs again"), "{said}");
    vps.ok("rm /srv/broken*");
    let without = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains("srv")).map(str::to_owned).collect()
    };
    assert_eq!(without(&vps.snapshot()), without(&good), "the upgrade left something");
    works(&lab).await;

    lab.router(0).stop().unwrap();
    let said = vps.ok("wanbond-setup uninstall --yes --remove-keys");
    assert!(said.contains("wanbond-server is removed"), "{said}");
    assert_eq!(vps.ok("nft -s list table inet filter"), plain);
    vps.ok("systemctl disable --now nftables && nft flush ruleset");
    vps.ok("mv /run/nftables.conf /etc/ && rm /srv/next");
    assert_eq!(vps.snapshot(), before);
}

/// Each is refused with a word on what to do, and changes nothing.
fn bad_input(lab: &Lab, vps: &Machine, before: &str) {
    let refused = |line: &str, word: &str| {
        let said = vps.fails(line);
        assert!(said.contains(word), "{line}:\n{said}");
        assert_eq!(vps.snapshot(), before, "{line} has changed something:\n{said}");
    };
    let plain = format!("{SETUP} --yes");
    refused(&format!("setpriv --reuid 1000 {plain}"), "this needs root");
    refused(&format!("{plain} --port 99999"), "is no port");
    refused(
        &format!("head -c 1000000 /srv/release.tar.gz >/tmp/cut; {plain} --from /tmp/cut"),
        "get it again",
    );
    refused(&format!("{plain} --from https://x.invalid/w --sha256 {}", "0".repeat(64)), "curl");
    // For the time of one command.
    let with = |set: &str, line: &str, unset: &str| {
        format!("{set} && {{ {line}; s=$?; {unset}; exit $s; }}")
    };
    refused(
        &with(
            "echo ID=fedora >/tmp/os && mount --bind /tmp/os /etc/os-release",
            &plain,
            "umount /etc/os-release",
        ),
        "use Debian 12 or 13",
    );
    refused(
        &with(
            "ip -4 route del default",
            &plain,
            "ip -4 route add default via 198.51.100.1 dev eth0",
        ),
        "no way out over IPv4",
    );
    refused(
        &with("mount -t tmpfs -o size=8m none /usr/local/bin", &plain, "umount /usr/local/bin"),
        "make room",
    );
    // Found out halfway only: what was done is undone.
    refused(
        &with(
            "mount -t tmpfs -o size=100m,nr_inodes=1 none /usr/local/bin",
            &plain,
            "umount /usr/local/bin",
        ),
        "No space left on device",
    );
    refused(
        &with(
            "mount --bind /etc/systemd/system{,} && mount -o remount,ro,bind /etc/systemd/system",
            &plain,
            "umount /etc/systemd/system",
        ),
        "Everything is as it was before this run",
    );
    let taken = lab.vps().tcp_listener((Ipv4Addr::UNSPECIFIED, 65101).into()).expect("free");
    refused(&plain, "port 65101 is in use");
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn debian_13_with_ufw_and_then_firewalld() {
    let Some(lab) = lab(QUICK) else { return };
    let vps = machine(&lab, "trixie", "firewalld,libpam-systemd,ufw");
    vps.ok("systemctl disable --now firewalld");
    vps.ok("ufw allow 22/tcp && ufw --force enable");
    let before = vps.snapshot();

    let installed = vps.ok(&format!("{SETUP} --yes --router first"));
    bonds(&lab, &code(&installed)).await;
    vps.ok("wanbond-setup doctor");
    let open = |port: u16| {
        let program = lab.dir().join("wanbond-server");
        let endpoint = format!("{VPS_V4}:{port}");
        lab.inet().output(program.to_str().expect("a path"), &["probe", &endpoint]).is_ok()
    };
    assert!(open(65101));
    lab.router(0).stop().unwrap();

    // To another port: the firewall and the codes made from then on follow.
    vps.ok("wanbond-setup install --yes --port 443");
    assert!(open(443) && !open(65101));
    let rules = vps.ok("ufw status");
    assert!(rules.contains("443/udp") && !rules.contains("65101"), "{rules}");
    bonds(&lab, &code(&vps.ok("wanbond-setup add-router second"))).await;
    assert!(vps.ok("wanbond-setup status").contains("second  connected"));

    // The firewall is loaded anew, as at a reboot.
    lab.router(0).stop().unwrap();
    vps.ok("ufw --force disable && ufw --force enable && wanbond-setup doctor");
    assert!(open(443));

    // Removed and set up again with the keys it had.
    let key = vps.ok("wanbond-server check | head -n 1");
    vps.ok("wanbond-setup uninstall --yes --keep-keys");
    assert!(!open(443));
    let again = vps.ok(&format!("{SETUP} --yes"));
    assert!(!again.contains("wanbond1:"), "{again}");
    assert_eq!(vps.ok("wanbond-server check | head -n 1"), key);
    lab.router(0).start().unwrap();
    works(&lab).await;
    lab.router(0).stop().unwrap();
    vps.ok("wanbond-setup uninstall --yes --remove-keys");
    assert_eq!(vps.snapshot(), before);

    // The other firewall, and routers in etcd.
    vps.ok("ufw --force disable && systemctl enable --now firewalld && firewall-cmd --state");
    let before = vps.snapshot();
    let etcd = etcd(&lab).await;
    let url = format!("http://{ORIGIN_V4}:2379");
    let shared = format!("{SETUP} --yes --etcd {url}");
    let installed = vps.ok(&shared);
    assert!(open(65101));
    bonds(&lab, &code(&installed)).await;
    vps.ok("wanbond-setup doctor");
    let (running, set_up) = (pid(&vps), vps.snapshot());
    let again = vps.ok(&shared);
    assert!(again.contains("already so: in the fleet") && !again.contains("wanbond1:"), "{again}");
    assert_eq!((pid(&vps), vps.snapshot()), (running, set_up));
    vps.ok("firewall-cmd --reload && wanbond-setup doctor");
    assert!(open(65101));
    works(&lab).await;

    drop(etcd);
    assert!(vps.fails("wanbond-setup doctor").contains("etcd can't be reached"));
    works(&lab).await;
    lab.router(0).stop().unwrap();
    vps.ok("wanbond-setup uninstall --yes --remove-keys");
    assert!(!open(65101));
    // Until then firewalld keeps its empty chains of a zone that was in use.
    vps.ok("firewall-cmd --reload");
    assert_eq!(vps.snapshot(), before);
}

/// An etcd in the lab's Internet. It ends when this is dropped.
async fn etcd(lab: &Lab) -> Etcd {
    let url = format!("http://{ORIGIN_V4}:2379");
    let mut command = Namespace::command("etcd");
    command.arg("--data-dir").arg(lab.dir().join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let etcd = Etcd(lab.inet().spawn(command).expect("etcd is installed"));
    let start = Instant::now();
    while lab.inet().tcp_connect((ORIGIN_V4, 2379).into()).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "etcd does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    etcd
}

struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
