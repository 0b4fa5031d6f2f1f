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
    assert_eq!(mode(state.router_path("home")), 0o600);
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
    fs::write(state.router_path("broken"), "created = [").unwrap();
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
