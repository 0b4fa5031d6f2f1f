//! The real program: what it prints, where, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wanbond_proto::pairing::PairingCode;

struct Server {
    _dir: tempfile::TempDir,
    state: PathBuf,
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { state: dir.path().join("state"), _dir: dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wanbond-server"));
        command.arg("--state").arg(&self.state).args(args);
        command.env_remove("WANBOND_LOG").env_remove("JOURNAL_STREAM");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn from_nothing_to_a_router() {
    let server = Server::new();
    assert!(server.fails(&["router", "add", "home"]).contains("init --endpoint"));
    assert!(server.fails(&["init"]).contains("--endpoint HOST"));
    assert!(server.fails(&["init", "--endpoint", "a b"]).contains("is not an endpoint"));
    let first =
        server.ok(&["init", "--endpoint", "vps.example", "--endpoint", "[2001:db8::1]:443"]);
    assert!(
        first.contains("endpoint: vps.example:65101\nendpoint: [2001:db8::1]:443\n"),
        "{first}"
    );
    let again = server.ok(&["init"]);
    assert!(again.contains("kept"), "{again}");
    assert_eq!(first.lines().nth(1), again.lines().nth(1), "the key changed");
    let mode = std::fs::metadata(server.state.join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let line = server.ok(&["router", "add", "home"]);
    assert_eq!(line.lines().count(), 1);
    let code: PairingCode = line.parse().unwrap();
    assert_eq!(code.endpoints.len(), 2);
    assert!(first.contains(&code.server.to_string()));
    assert!(server.fails(&["router", "add", "home"]).contains("already"));
    assert!(server.fails(&["router", "add", "a/b"]).contains("is not a router name"));

    let output = server.run(&["router", "add", "second", "--print-qr"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    assert!(String::from_utf8(output.stderr).unwrap().contains('█'));

    let key = code.seed.static_secret().public().to_string();
    let list = server.ok(&["router", "list"]);
    assert!(list.contains("home") && list.contains("second") && list.contains(&key), "{list}");
    let shown: serde_json::Value =
        serde_json::from_str(&server.ok(&["router", "show", "home", "--json"])).unwrap();
    assert_eq!((&shown["name"], &shown["public_key"]), (&"home".into(), &key.clone().into()));
    let psk = code.seed.preshared_key().to_text();
    for args in [&["router", "list", "--json"][..], &["router", "show", "home"]] {
        assert!(!server.ok(args).contains(&psk), "{args:?} shows a secret");
    }
    server.ok(&["router", "remove", "home"]);
    assert!(server.fails(&["router", "remove", "home"]).contains("no router 'home'"));
    assert!(!server.ok(&["router", "list", "--json"]).contains(&key));
}

#[test]
fn forwards_and_inner_addresses() {
    let server = Server::new();
    server.ok(&["init", "--endpoint", "127.0.0.1"]);
    server.ok(&["router", "add", "home"]);
    server.ok(&["router", "add", "office"]);
    // In a namespace where nobody listens: what does on this machine is none of this test's.
    let alone = |args: &[&str]| {
        let binary = server.command(args);
        let mut command = Command::new("unshare");
        command.arg("--net").arg(binary.get_program()).args(binary.get_args());
        command.output().unwrap()
    };
    let add = ["forward", "add", "home", "--tcp", "8080", "--udp", "8080", "--to"];
    let output = alone(&[&add[..], &["192.168.1.10:80"]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "router 'home': tcp 8080 to 192.168.1.10:80\nrouter 'home': udp 8080 to 192.168.1.10:80\n"
    );
    let fails = |args: &[&str]| {
        let output = alone(args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let office =
        |port: &str, to: &str| fails(&["forward", "add", "office", "--tcp", port, "--to", to]);
    assert!(office("8000-9000", "192.168.1.2").contains("tcp port 8080 is forwarded already"));
    assert!(office("65101", "192.168.1.2").contains("this server's own"));
    assert!(office("80", "nas").contains("'nas' is no host"));
    assert!(office("0", "192.168.1.2").contains("'0' is no port"));
    assert!(fails(&["forward", "add", "office", "--to", "192.168.1.2"]).contains("--tcp"));
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let told = server.fails(&["forward", "add", "office", "--tcp", &port, "--to", "192.168.1.2"]);
    assert!(told.contains(&format!("listens on tcp port {port}")), "{told}");

    let shown = server.ok(&["router", "show", "office"]);
    assert!(shown.contains("inner IPv4: 10.239.0.3\ninner IPv6: fd"), "{shown}");
    assert!(shown.contains("prefix: none"), "{shown}");
    let shown: serde_json::Value =
        serde_json::from_str(&server.ok(&["router", "show", "home", "--json"])).unwrap();
    assert_eq!(shown["inner_ipv4"], "10.239.0.2");
    assert_eq!(shown["forwards"][0]["first_port"], 8080);
    let list: serde_json::Value =
        serde_json::from_str(&server.ok(&["forward", "list", "--json"])).unwrap();
    assert_eq!((&list[1]["router"], &list[1]["protocol"]), (&"home".into(), &"udp".into()));
    assert_eq!((&list[1]["host"], &list[1]["host_port"]), (&"192.168.1.10".into(), &80.into()));
    assert!(
        server
            .fails(&["forward", "remove", "home", "--tcp", "80"])
            .contains("no forward of tcp 80")
    );
    server.ok(&["forward", "remove", "home", "--tcp", "8080", "--udp", "8080"]);
    assert_eq!(server.ok(&["forward", "list", "--json"]).trim(), "[]");
}

#[test]
fn damage_is_named() {
    let server = Server::new();
    server.ok(&["init", "--endpoint", "127.0.0.1"]);
    server.ok(&["router", "add", "good"]);
    std::fs::write(server.state.join("routers/bad.toml"), "enabled = 7").unwrap();
    let output = server.run(&["router", "list"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("good"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("routers/bad.toml is wrong"));
    std::fs::write(server.state.join("server.toml"), "endpoints = 1").unwrap();
    let text = server.fails(&["run"]);
    assert!(text.contains("server.toml is wrong") && text.contains("line 1"), "{text}");
    std::fs::write(server.state.join("key"), "x").unwrap();
    assert!(server.fails(&["run"]).contains("key is damaged"));
    assert!(server.fails(&["--log", "info,=loud", "run"]).contains("is no log level"));
}

/// Ended, whatever the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_server_follows_the_files_and_stops_on_sigterm() {
    let server = Server::new();
    // A port of its own: other tests may run at the same time.
    let port = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    };
    server.ok(&["init", "--endpoint", &format!("127.0.0.1:{port}")]);
    // A namespace of its own: the control socket and kernel settings are per namespace.
    let binary = server.command(&["run"]);
    let mut command = Command::new("unshare");
    command.arg("--net").arg(binary.get_program()).args(binary.get_args());
    let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut running = Running(child);
    let stderr = running.0.stderr.take().unwrap();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut seen = Vec::new();
    let mut wait_for = |part: &str| loop {
        match lines.recv_timeout(Duration::from_secs(10)) {
            Ok(line) if line.contains(part) => break,
            Ok(line) => seen.push(line),
            Err(error) => panic!("no '{part}' ({error}) after {seen:#?}"),
        }
    };
    let pid = Pid::from_raw(running.0.id().try_into().unwrap());
    // Not a signal before its handler: the first reload proves that all is in place.
    std::thread::sleep(Duration::from_millis(300));
    server.ok(&["router", "add", "late"]);
    wait_for("router added router=late");
    std::fs::write(server.state.join("routers/late.toml"), "rubbish").unwrap();
    wait_for("late.toml is wrong");
    server.ok(&["router", "remove", "late"]);
    wait_for("router removed router=late");
    kill(pid, Signal::SIGHUP).unwrap();
    wait_for("reading the settings again");
    kill(pid, Signal::SIGTERM).unwrap();
    wait_for("stopping");
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn a_router_gets_new_keys_limits_and_a_pause() {
    let server = Server::new();
    server.ok(&["init", "--endpoint", "vps.example"]);
    let code = |text: &str| text.trim().parse::<PairingCode>().unwrap();
    let first = code(&server.ok(&["router", "add", "home"]));
    server.ok(&["forward", "add", "home", "--tcp", "40000", "--to", "192.168.1.2"]);
    let inner =
        |shown: &str| shown.lines().find(|line| line.starts_with("inner IPv4")).unwrap().to_owned();
    let before = inner(&server.ok(&["router", "show", "home"]));

    let second = code(&server.ok(&["router", "rekey", "home"]));
    assert_ne!(first.seed.static_secret().public(), second.seed.static_secret().public());
    assert_eq!(first.server, second.server);
    let shown = server.ok(&["router", "show", "home"]);
    assert!(shown.contains(&second.seed.static_secret().public().to_string()), "{shown}");
    assert!(shown.contains("forward: ") && inner(&shown) == before, "{shown}");

    let shown = server.ok(&["router", "limit", "home", "--monthly-gb", "500", "--flows", "9"]);
    assert!(shown.contains("monthly traffic (GB): 500") && shown.contains("flows: 9"), "{shown}");
    let shown = server.ok(&["router", "limit", "home", "--flows", "default"]);
    assert!(shown.contains("monthly traffic (GB): 500"), "{shown}");
    assert!(shown.contains("flows: server's default"), "{shown}");
    assert!(server.fails(&["router", "limit", "home", "--lanes", "many"]).contains("no number"));
    server.fails(&["router", "limit", "home"]);

    server.ok(&["router", "disable", "home"]);
    assert!(server.ok(&["router", "show", "home"]).contains("enabled: no"));
    server.ok(&["router", "enable", "home"]);
    assert!(server.ok(&["router", "show", "home"]).contains("enabled: yes"));
    for command in ["rekey", "disable", "enable"] {
        assert!(server.fails(&["router", command, "cabin"]).contains("no router 'cabin'"));
    }
}

#[test]
fn the_key_is_rotated_once_at_a_time() {
    let server = Server::new();
    server.ok(&["init", "--endpoint", "vps.example"]);
    let key = |line: &str| {
        let checked = server.ok(&["check"]);
        let found = checked.lines().find_map(|shown| shown.strip_prefix(line));
        found.map(str::to_owned)
    };
    let old = key("public key: ").unwrap();
    assert!(server.fails(&["key", "forget-previous"]).contains("no key from before"));
    let said = server.ok(&["key", "rotate"]);
    let new = key("public key: ").unwrap();
    assert_ne!(old, new);
    assert_eq!(said, format!("public key: {new}\n"));
    assert_eq!(key("previous public key: "), Some(old));
    let code: PairingCode = server.ok(&["router", "add", "home"]).trim().parse().unwrap();
    assert_eq!(code.server.to_string(), new);
    assert!(server.fails(&["key", "rotate"]).contains("forget-previous"));
    let previous = server.state.join("key.previous");
    assert_eq!(std::fs::metadata(&previous).unwrap().permissions().mode() & 0o777, 0o600);
    server.ok(&["key", "forget-previous"]);
    assert!(!previous.exists() && key("previous public key: ").is_none());
    server.ok(&["key", "rotate"]);
}

#[test]
fn a_fleet_that_can_t_be_had_changes_nothing() {
    let server = Server::new();
    server.ok(&["init", "--endpoint", "vps.example"]);
    for command in ["status", "key", "leave", "codes"] {
        assert!(server.fails(&["fleet", command]).contains("in no fleet"), "{command}");
    }
    // Port 9 of this machine is nobody's.
    let etcd = ["--etcd", "http://127.0.0.1:9"];
    let said = server.fails(&[&["fleet", "start"][..], &etcd].concat());
    assert!(said.contains("etcd can't be reached (http://127.0.0.1:9: "), "{said}");
    let key = server.state.join("no-key");
    std::fs::write(&key, "short\n").unwrap();
    let join = ["fleet", "join", "--fleet-key", key.to_str().unwrap()];
    let said = server.fails(&[&join[..], &etcd].concat());
    assert!(said.contains("this is no fleet's key"), "{said}");
    assert!(server.fails(&["fleet", "start"]).contains("is no etcd address"));
    let said = server.fails(&["fleet", "start", "--etcd", "https://a:1", "--ca", "/nowhere"]);
    assert!(said.contains("can't read /nowhere"), "{said}");
    assert!(!server.state.join("fleet").exists());
    assert_eq!(server.ok(&["router", "add", "home"]).lines().count(), 1);
}
