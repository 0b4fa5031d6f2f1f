//! Two servers, one list of routers in etcd: whoever is added or removed on one is so on both, and
//! neither needs etcd for those it knows.

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::seen_from;
use wanbond_control::{ServerState, Status};
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4};
use wanbond_lab::traffic::{Download, download};

/// Where the second VPS is.
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);

fn connected(status: &Status) -> bool {
    status.server.as_ref().is_some_and(|server| server.state == ServerState::Connected)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Ends with the test.
struct Running(Child);

impl Running {
    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// An etcd in the lab's Internet, with TLS, users and roles.
struct Etcd<'a> {
    lab: &'a Lab,
    dir: PathBuf,
}

impl<'a> Etcd<'a> {
    fn new(lab: &'a Lab) -> Self {
        let dir = lab.dir().join("etcd");
        fs::create_dir(&dir).unwrap();
        let etcd = Self { lab, dir };
        fs::write(etcd.file("password"), "pass word\n").unwrap();
        fs::write(etcd.file("extensions"), format!("subjectAltName=IP:{ORIGIN_V4}\n")).unwrap();
        let script =
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                -subj /CN=ca -keyout ca.key -out ca.pem &&
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=etcd \
                -keyout etcd.key -out etcd.csr &&
            openssl x509 -req -in etcd.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile extensions -out etcd.pem";
        run(Command::new("sh").args(["-ec", script]).current_dir(&etcd.dir));
        etcd
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn url() -> String {
        format!("https://{ORIGIN_V4}:2379")
    }

    /// What a server is told of it.
    fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        let words = ["--etcd", &Self::url(), "--user", "wanbond", "--password-file"];
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.extend([file("password"), "--ca".into(), file("ca.pem")]);
        words
    }

    /// Starts it with what it had, and waits until it answers.
    async fn start(&self) -> Running {
        let url = Self::url();
        let log = fs::File::create(self.lab.log_dir().join("etcd.log")).unwrap();
        let mut command = Namespace::command("etcd");
        command.arg("--data-dir").arg(self.file("data"));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--logger", "zap"]);
        command.arg("--cert-file").arg(self.file("etcd.pem"));
        command.arg("--key-file").arg(self.file("etcd.key"));
        command.stderr(log).stdout(Stdio::null());
        let running = Running(self.lab.inet().spawn(command).expect("etcd is installed"));
        wait_until("etcd answers", || self.ctl(&["get", "x", "--limit=1"]).is_ok()).await;
        running
    }

    fn ctl(&self, words: &[&str]) -> Result<(), wanbond_lab::ns::NsError> {
        let ca = self.file("ca.pem").display().to_string();
        let url = Self::url();
        let mut all = vec!["ETCDCTL_API=3", "etcdctl", "--endpoints", &url, "--cacert", &ca];
        all.extend(["--user", "root:root"]);
        all.extend(words);
        self.lab.inet().output("env", &all).map(drop)
    }

    /// As its owner would: a user that may do as it likes under the prefix, and nowhere else.
    async fn start_anew(&self) -> Running {
        let _ = fs::remove_dir_all(self.file("data"));
        let running = self.start().await;
        for words in [
            &["user", "add", "root:root"][..],
            &["user", "add", "wanbond:pass word"],
            &["role", "add", "wanbond"],
            &["role", "grant-permission", "wanbond", "--prefix=true", "readwrite", "/wanbond/"],
            &["user", "grant-role", "wanbond", "wanbond"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            self.ctl(words).unwrap();
        }
        running
    }
}

/// A second VPS with a server, beside the lab's own.
struct Second<'a> {
    ns: Namespace,
    state: PathBuf,
    log: PathBuf,
    lab: &'a Lab,
}

impl<'a> Second<'a> {
    fn new(lab: &'a Lab) -> Self {
        let ns = Namespace::create("vps2").unwrap();
        let inet = lab.inet().tid();
        ns.ip(&format!(
            "link add eth0 type veth peer name vps2 netns {inet}\nlink set dev eth0 up\n\
             addr add {SECOND}/32 dev eth0\nroute add 198.51.100.1/32 dev eth0\n\
             route add 0.0.0.0/0 via 198.51.100.1 dev eth0\n"
        ))
        .unwrap();
        lab.inet().ip(&format!("link set dev vps2 up\nroute add {SECOND}/32 dev vps2\n")).unwrap();
        ns.sysctl(&[("net.ipv4.ip_forward", "1")]).unwrap();
        let (state, log) = (lab.dir().join("second"), lab.log_dir().join("second.log"));
        let second = Self { ns, state, log, lab };
        second.cli(&["init", "--endpoint", &SECOND.to_string()]).unwrap();
        second
    }

    fn program() -> PathBuf {
        let beside = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
        let folder = std::env::var_os("WANBOND_BIN_DIR").map_or_else(beside, PathBuf::from);
        folder.join("wanbond-server")
    }

    fn cli(&self, words: &[&str]) -> Result<String, wanbond_lab::ns::NsError> {
        let mut all = vec!["--state", self.state.to_str().unwrap()];
        all.extend(words);
        let output = self.ns.output(Self::program().to_str().unwrap(), &all)?;
        Ok(String::from_utf8(output.stdout).unwrap())
    }

    async fn start(&self) -> Running {
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Namespace::command(Self::program());
        command.arg("--state").arg(&self.state).arg("run");
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let running = Running(self.ns.spawn(command).unwrap());
        wait_until("the second server answers", || self.cli(&["status"]).is_ok()).await;
        running
    }

    /// Whether it carries the LAN's traffic.
    async fn carries(&self) {
        self.lab.router(0).wait_status(PATIENCE, "connected", connected).unwrap();
        all_up(self.lab);
        assert_eq!(seen_from(self.lab.lan(0), http()).await.unwrap(), SECOND);
        let done = download(self.lab.lan(0), &Download::new(http(), 2_000_000)).await;
        assert_eq!((done.bytes, done.error.as_deref()), (2_000_000, None));
    }

    fn knows(&self, name: &str) -> bool {
        let list = fs::read_to_string(self.state.join(format!("fleet/routers/{name}.toml")));
        list.is_ok()
    }
}

fn with<'a>(words: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    fs::write(dir.join(name), text).unwrap();
    dir.join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_admit_the_same_routers_with_etcd_and_without() {
    let Some(lab) = lab(QUICK) else { return };
    let etcd = Etcd::new(&lab);
    let answering = etcd.start_anew().await;
    let first = lab.server();
    first.init(&[&VPS_V4.to_string()]).unwrap();
    first.start().unwrap();
    let second = Second::new(&lab);
    let running = second.start().await;

    // The first begins a fleet, the second joins it, both while they run.
    let arguments = etcd.arguments();
    let key = first.cli(&with(&["fleet", "start"], &arguments)).unwrap();
    let wrong = write(lab.dir(), "wrong-key", &"A".repeat(43));
    let join = |key: &str| second.cli(&with(&["fleet", "join", "--fleet-key", key], &arguments));
    let error = join(&wrong).unwrap_err().to_string();
    assert!(error.contains("has another key"), "{error}");
    join(&write(lab.dir(), "fleet-key", &key)).unwrap();

    // A router that is added on the first is admitted by the second.
    let codes = first.cli(&["router", "add", "cabin"]).unwrap();
    let codes: Vec<&str> = codes.lines().collect();
    assert_eq!(codes.len(), 2, "{codes:?}");
    let router = lab.router(0);
    router.configure(&router.config(codes[1].to_owned())).unwrap();
    router.start().unwrap();
    second.carries().await;

    // A stranger's entry hurts nobody, and is named.
    etcd.ctl(&["put", "/wanbond/routers/evil", "enabled = true"]).unwrap();
    first.cli(&["router", "limit", "cabin", "--flows", "77"]).unwrap();
    wait_until("the second follows a change", || {
        second.cli(&["router", "show", "cabin"]).unwrap().contains("flows: 77")
    })
    .await;
    let status = second.cli(&["fleet", "status"]).unwrap();
    assert!(status.contains("can't be used: routers/evil: it was not put there"), "{status}");
    assert!(status.contains(&format!("server: {VPS_V4}:65101\n")), "{status}");

    // Without etcd: traffic goes on, a server that starts knows its routers, changes are refused.
    answering.kill();
    second.carries().await;
    running.kill();
    router.wait_status(PATIENCE, "the second server is gone", |s| !connected(s)).unwrap();
    let running = second.start().await;
    second.carries().await;
    let error = first.cli(&["router", "remove", "cabin"]).unwrap_err().to_string();
    assert!(error.contains("etcd can't be reached"), "{error}");

    // With etcd again: what is removed on the first loses the second at once.
    let answering = etcd.start().await;
    wait_until("removed on the first", || first.cli(&["router", "remove", "cabin"]).is_ok()).await;
    router.wait_status(PATIENCE, "revoked on the second", |s| !connected(s)).unwrap();
    assert!(!second.knows("cabin"));

    // What the second adds, the first admits. An etcd that was emptied takes nobody out.
    let codes = second.cli(&["router", "add", "house"]).unwrap();
    let to_first = codes.lines().nth(1).expect("a code for each server").to_owned();
    router.configure(&router.config(to_first)).unwrap();
    router.reload().unwrap();
    all_up(&lab);
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), VPS_V4);
    answering.kill();
    let _answering = etcd.start_anew().await;
    let error = second.cli(&["fleet", "status"]).unwrap_err().to_string();
    assert!(error.contains("was it emptied?"), "{error}");
    let error = second.cli(&["router", "add", "third"]).unwrap_err().to_string();
    assert!(error.contains("was it emptied?"), "{error}");
    assert_eq!(first.cli(&["fleet", "start"]).unwrap(), key);
    second.cli(&["router", "add", "third"]).unwrap();
    wait_until("the first follows again", || {
        first.cli(&["router", "list"]).unwrap().contains("third")
    })
    .await;
    assert!(second.knows("house"));
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), VPS_V4);
    drop(running);
}
