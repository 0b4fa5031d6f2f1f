use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path().join("state"));
    state.init(&["vps.example".parse().unwrap()]).unwrap();
    (dir, state)
}

#[test]
fn init_twice_keeps_key_and_edits() {
    let (_dir, state) = state();
    let key = state.key().unwrap().public();
    let path = state.config_path();
    let edited = fs::read_to_string(&path).unwrap().replace("#drain = 1", "drain = 3");
    fs::write(&path, &edited).unwrap();
    assert_eq!(state.init(&[]).unwrap(), Initialised::Kept);
    assert_eq!(fs::read_to_string(&path).unwrap(), edited);

    let endpoints = ["198.51.100.1:99".parse().unwrap(), "[2001:db8::1]:99".parse().unwrap()];
    assert_eq!(state.init(&endpoints).unwrap(), Initialised::EndpointsReplaced);
    let config = state.config().unwrap();
    assert_eq!(config.endpoints, endpoints);
    assert_eq!(config.ports, [99]);
    assert_eq!(config.drain.as_secs(), 3);
    assert_eq!(state.key().unwrap().public(), key);
}

#[test]
fn a_lost_key_or_config_is_made_again_and_a_damaged_one_is_not() {
    let (_dir, state) = state();
    fs::remove_file(state.key_path()).unwrap();
    assert_eq!(state.init(&[]).unwrap(), Initialised::Created);
    fs::write(state.key_path(), "rubbish").unwrap();
    assert!(matches!(state.init(&[]), Err(StateError::DamagedKey { .. })));
    fs::write(state.config_path(), "port = 1").unwrap();
    let error = state.init(&["a".parse().unwrap()]).unwrap_err();
    assert!(matches!(error, StateError::BadConfig { .. }), "{error}");
    assert_eq!(fs::read_to_string(state.config_path()).unwrap(), "port = 1");
}

#[test]
fn permissions() {
    let (_dir, state) = state();
    state.add_router("home", 1).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(state.path().to_owned()), 0o700);
    assert_eq!(mode(state.routers_path()), 0o700);
    assert_eq!(mode(state.key_path()), 0o600);
    assert_eq!(mode(state.router_path("home", false)), 0o600);
    fs::set_permissions(state.key_path(), fs::Permissions::from_mode(0o644)).unwrap();
    let error = state.key().unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains("644"), "{error}");
}

#[test]
fn the_code_is_what_the_server_admits() {
    let (_dir, state) = state();
    let code = state.add_router("home", 7).unwrap();
    assert_eq!(code.server, state.key().unwrap().public());
    let entry = state.router("home").unwrap();
    assert_eq!(entry.public_key, code.seed.static_secret().public());
    assert_eq!(entry.psk, code.seed.preshared_key());
    assert_eq!((entry.created, entry.enabled), (7, true));
    assert!(matches!(state.add_router("home", 8), Err(StateError::RouterExists(_))));
    assert_eq!(state.router("home").unwrap(), entry);
    state.remove_router("home").unwrap();
    assert!(matches!(state.remove_router("home"), Err(StateError::NoSuchRouter(_))));
    assert!(matches!(state.add_router("../x", 8), Err(StateError::BadName(_))));
    // Nothing hidden is left behind.
    assert_eq!(fs::read_dir(state.routers_path()).unwrap().count(), 0);
}

#[test]
fn one_broken_router_hides_no_other() {
    let (_dir, state) = state();
    state.add_router("b", 1).unwrap();
    state.add_router("a", 1).unwrap();
    fs::write(state.router_path("broken", false), "created = [").unwrap();
    fs::write(state.routers_path().join("a.toml~"), "x").unwrap();
    fs::write(state.routers_path().join(".c.toml"), "x").unwrap();
    let routers = state.routers().unwrap();
    assert_eq!(routers.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(routers.broken.len(), 1);
    let text = routers.broken[0].to_string();
    assert!(text.contains("broken.toml") && text.contains("remove the router"), "{text}");
    state.remove_router("broken").unwrap();
}

#[test]
fn no_state_says_what_to_run() {
    let state = StateDir::new("/nonexistent/wanbond");
    for error in [
        state.key().unwrap_err(),
        state.config().unwrap_err(),
        state.routers().unwrap_err(),
        state.add_router("x", 0).unwrap_err(),
    ] {
        assert!(error.to_string().contains("--state /nonexistent/wanbond init"), "{error}");
    }
    assert!(matches!(state.init(&[]), Err(StateError::NoEndpoint)));
}

fn numbers(state: &StateDir) -> Vec<(String, u32)> {
    state.routers().unwrap().entries.into_iter().map(|e| (e.name, e.inner)).collect()
}

#[test]
fn every_router_has_a_number_of_its_own_and_keeps_it() {
    let (_dir, state) = state();
    for (name, created) in [("b", 1), ("a", 2), ("c", 3)] {
        state.add_router(name, created).unwrap();
    }
    let expected = [("a".to_owned(), 2), ("b".to_owned(), 1), ("c".to_owned(), 3)];
    assert_eq!(numbers(&state), expected);
    // A removed one's number is not given to the next.
    state.remove_router("a").unwrap();
    state.add_router("d", 4).unwrap();
    assert_eq!(state.router("d").unwrap().inner, 4);

    // Files of an older version, and a copy.
    for name in ["c", "d"] {
        let path = state.router_path(name, false);
        let text = fs::read_to_string(&path).unwrap();
        let older: String =
            text.lines().filter(|l| !l.starts_with("inner")).map(|l| format!("{l}\n")).collect();
        fs::write(&path, older + "# a note\n").unwrap();
    }
    fs::copy(state.router_path("b", false), state.router_path("copy", false)).unwrap();
    let given = numbers(&state);
    let all: BTreeSet<u32> = given.iter().map(|(_, number)| *number).collect();
    assert_eq!((all.len(), all.contains(&0)), (4, false), "{given:?}");
    assert_eq!(given[0], ("b".to_owned(), 1));
    assert_eq!(numbers(&state), given);
    assert_eq!(StateDir::new(state.path()).router("d").unwrap().inner, given[3].1);
    let text = fs::read_to_string(state.router_path("d", false)).unwrap();
    assert!(text.contains("# a note"), "{text}");
}

#[test]
fn forwards_are_kept_and_do_not_collide() {
    let (_dir, state) = state();
    state.add_router("home", 1).unwrap();
    state.add_router("office", 2).unwrap();
    let forward = |port: &str, to: &str| {
        forwards::forward(Protocol::Tcp, port.parse().unwrap(), to.parse().unwrap()).unwrap()
    };
    let nobody = |_| BTreeSet::new();
    let web = forward("8080", "192.168.1.10:80");
    state.add_forwards("home", &[web, forward("100-110", "192.168.1.11")], nobody).unwrap();
    assert_eq!(state.router("home").unwrap().forwards.len(), 2);
    let add = |name: &str, wanted: &[Forward]| {
        let ssh = |protocol| BTreeSet::from_iter((protocol == Protocol::Tcp).then_some(22));
        state.add_forwards(name, wanted, ssh).unwrap_err().to_string()
    };
    assert!(add("office", &[web]).contains("forwarded already, to router 'home'"));
    assert!(add("home", &[web]).contains("forwarded already"));
    let free = forward("9000", "192.168.1.1");
    assert!(add("office", &[free, free]).contains("forwarded already, to router 'office'"));
    assert!(add("office", &[forward("65101", "192.168.1.1")]).contains("this server's own"));
    assert!(add("office", &[forward("20-30", "192.168.1.1")]).contains("tcp port 22 (SSH)"));
    assert!(add("nobody", &[free]).contains("no router 'nobody'"));
    assert!(state.router("office").unwrap().forwards.is_empty());
    let many: Vec<Forward> = (0..=MAX_FORWARDS as u16)
        .map(|n| forward(&(2000 + n).to_string(), "192.168.1.1"))
        .collect();
    assert!(add("office", &many).contains("more it can't have"));

    let ports = |text: &str| (Protocol::Tcp, text.parse().unwrap());
    let error = state.remove_forwards("home", &[ports("100")]).unwrap_err();
    assert!(error.to_string().contains("no forward of tcp 100"), "{error}");
    state.remove_forwards("home", &[ports("100-110"), ports("8080")]).unwrap();
    assert!(state.router("home").unwrap().forwards.is_empty());
    assert_eq!(state.router("home").unwrap().inner, 1);
}

#[test]
fn what_root_writes_belongs_to_the_directorys_owner() {
    use std::os::unix::fs::{MetadataExt as _, chown};

    if !geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // nobody, in every distribution.
    chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let state = StateDir::new(dir.path());
    state.init(&["vps.example".parse().unwrap()]).unwrap();
    state.add_router("home", 1).unwrap();
    for name in ["key", "server.toml", "routers", "routers/home.toml"] {
        let path = dir.path().join(name);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o077), (65534, 0), "{name}");
    }
}
