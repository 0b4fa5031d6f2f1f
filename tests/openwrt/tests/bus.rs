//! The router on OpenWrt's bus: networks by name, its object, its notifications, and what may go wrong.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use wanbond_control::status::WanStatus;
use wanbond_control::{Status, WanState};
use wanbond_e2e::{PATIENCE, QUICK, carried, http, lab, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::traffic::{Download, download};
use wanbond_openwrt::{Bus, Caller, Provider};

/// The device of the LAN on a router of the lab.
const LAN: &str = "lan";

/// What netifd says; `lte` as it is given.
fn dump(lte: &Value) -> Value {
    let up = |name: &str, device: &str| json!({"interface": name, "up": true, "pending": false, "available": true, "l3_device": device, "device": device, "proto": "dhcp", "route": []});
    let lte = lte.as_str().map_or_else(|| lte.clone(), |device| up("lte", device));
    json!({"interface": [up("loopback", "lo"), up("home", LAN), up("wan", "wan1"), lte]})
}

/// A lab whose router knows its networks by netifd's names.
fn openwrt() -> Option<(Lab, PathBuf)> {
    let lab = lab(QUICK)?;
    lab.server().start().expect("the server starts");
    let mut config = lab.router(0).pair().expect("it is paired");
    config.wans.clear();
    for (name, interface) in [("fibre", "wan"), ("mobile", "lte")] {
        config.extra += &format!("\nconfig wan '{name}'\n\toption interface '{interface}'\n");
    }
    config.lan = "home".into();
    lab.router(0).configure(&config).expect("the configuration is written");
    let socket = lab.router(0).ubus_path();
    Some((lab, socket))
}

fn wait(lab: &Lab, what: &str, is_it: impl Fn(&Status) -> bool) -> Status {
    lab.router(0).wait_status(PATIENCE, what, is_it).expect(what)
}

fn all_up(status: &Status) -> bool {
    status.wans.len() == 2
        && status.wans.iter().all(|wan| wan.state == WanState::Up)
        && status.lanes.idle > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_found_by_name_and_the_object_serves() {
    let Some((lab, socket)) = openwrt() else { return };
    let bus = Bus::start(&socket);
    let netifd = Provider::start(&socket, "network.interface", "dump", dump(&json!("wan2")));
    lab.router(0).start().unwrap();
    let status = wait(&lab, "all networks up", all_up);
    let devices: Vec<_> = status.wans.iter().map(|wan| wan.device.as_deref()).collect();
    assert_eq!(devices, [Some("wan1"), Some("wan2")]);
    assert_eq!(status.lan, [LAN]);
    let got = download(lab.lan(0), &Download::new(http(), 200_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");

    // One document, whoever asks.
    let mut caller = Caller::connect(&socket);
    let on_bus = caller.call("wanbond", "status", &json!({})).unwrap();
    let on_socket: Value =
        serde_json::from_str(&lab.router(0).cli(&["status", "--json"]).unwrap()).unwrap();
    assert_eq!(shape(&on_bus), shape(&on_socket));
    assert_eq!(on_bus["wans"][1]["interface"], "lte");
    let signature = caller.signature("wanbond").unwrap();
    assert_eq!(signature["status"], json!({}));
    assert_eq!(signature["wan"]["name"], 3, "a string, as blobmsg counts types");

    // What it does, it tells.
    let mut listener = Caller::connect(&socket);
    listener.listen("wanbond").unwrap();
    caller.call("wanbond", "wan", &json!({"name": "mobile", "role": "off"})).unwrap();
    let event = listener.heard(|name, _| name == "wan_role");
    assert_eq!(event["wan"], "mobile");
    wait(&lab, "mobile paused", |status| status.wans[1].state == WanState::Paused);
    let events = caller.call("wanbond", "events", &json!({"since": 0})).unwrap();
    assert!(events["events"].as_array().unwrap().iter().any(|e| e["kind"] == "wan_role"));
    caller.call("wanbond", "wan", &json!({"name": "mobile", "action": "up"})).unwrap();
    wait(&lab, "mobile up again", all_up);
    for (method, arguments) in [
        ("wan", json!({"name": "nowhere", "action": "up"})),
        ("wan", json!({"name": 7})),
        ("explode", json!({})),
    ] {
        let refused = caller.call("wanbond", method, &arguments);
        assert!(refused.is_err(), "{method} {arguments}: {refused:?}");
    }

    // netifd's news are followed.
    let gone = json!({"interface": "lte", "up": false, "pending": false, "available": false});
    netifd.change(dump(&gone));
    let status = wait(&lab, "mobile down", |status| status.wans[1].state == WanState::Down);
    assert_eq!(status.wans[1].why, "network lte is without its device");
    netifd.change(dump(&json!("wan2")));
    wait(&lab, "mobile back", all_up);

    // ubusd is restarted, and everyone comes back.
    drop(caller);
    drop((listener, netifd, bus));
    let _bus = Bus::start(&socket);
    let _netifd = Provider::start(&socket, "network.interface", "dump", dump(&json!("wan2")));
    wait(&lab, "all still up", all_up);
    let start = std::time::Instant::now();
    loop {
        let mut caller = Caller::connect(&socket);
        if caller.call("wanbond", "status", &json!({})).is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come back to the bus");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (ended, left) = lab.router(0).stop().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modem_that_comes_back_under_another_name_is_the_same_wan() {
    let Some((lab, socket)) = openwrt() else { return };
    let _bus = Bus::start(&socket);
    let netifd = Provider::start(&socket, "network.interface", "dump", dump(&json!("wan2")));
    lab.router(0).start().unwrap();
    wait(&lab, "all networks up", all_up);
    let job = Download::timed(http(), Duration::from_secs(300));
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        () = async {
            is_used(&lab).await;
            lab.wan("wan2").unplug().unwrap();
            let gone = json!({"interface": "lte", "up": false, "pending": false, "available": false});
            netifd.change(dump(&gone));
            let mobile = |is_it: fn(&WanStatus) -> bool| {
                lab.router(0).status().is_ok_and(|status| is_it(&status.wans[1]))
            };
            wait_until("it is down", || mobile(|wan| wan.state == WanState::Down)).await;
            lab.wan("wan2").plug_as("wwan7").unwrap();
            netifd.change(dump(&json!("wwan7")));
            let is_back =
                |wan: &WanStatus| wan.state == WanState::Up && wan.device.as_deref() == Some("wwan7");
            wait_until("it is back", || mobile(is_back)).await;
            is_used(&lab).await;
        } => {}
    }
    let status = lab.router(0).status().unwrap();
    assert_eq!((status.wans[1].name.as_str(), status.wans.len()), ("mobile", 2));
    let (ended, left) = lab.router(0).stop().unwrap();
    assert!(ended.success(), "{ended}");
    // The device itself is the test's doing.
    let ours = left.iter().filter(|line| !line.contains("wan2") && !line.contains("wwan7"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Waits until the second WAN carries a real share.
async fn is_used(lab: &Lab) {
    let before = carried(lab, "wan2").0;
    wait_until("the modem carries", || carried(lab, "wan2").0 > before + 2_000_000).await;
}

/// A page asks as soon as it has applied a change for which the daemon starts anew.
#[tokio::test(flavor = "multi_thread")]
async fn who_calls_while_it_starts_anew_is_answered() {
    let Some((lab, socket)) = openwrt() else { return };
    let _bus = Bus::start(&socket);
    let _netifd = Provider::start(&socket, "network.interface", "dump", dump(&json!("wan2")));
    lab.router(0).start().unwrap();
    wait(&lab, "all networks up", all_up);
    let (answers, answered) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let asker = std::thread::spawn({
        let (socket, over) = (socket, Arc::clone(&over));
        move || {
            let mut caller = Caller::connect(&socket);
            while !over.load(Ordering::Relaxed) {
                let answer = caller.call("wanbond", "status", &json!({}));
                let _ = answers.send(answer.is_ok());
            }
        }
    });
    let mut config = lab.router(0).configuration().unwrap();
    for tcp in ["stream", "auto", "packet", "auto", "stream", "auto"] {
        config.tcp = tcp.into();
        lab.router(0).configure(&config).unwrap();
        lab.router(0).reload().unwrap();
        for _ in 0..20 {
            let ok = answered.recv_timeout(PATIENCE).expect("a call is answered");
            assert!(ok, "and not refused, tcp {tcp}");
        }
    }
    wait(&lab, "all networks up again", all_up);
    over.store(true, Ordering::Relaxed);
    asker.join().unwrap();
    let (ended, left) = lab.router(0).stop().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stands_back_where_mwan3_is_active() {
    let Some((lab, socket)) = openwrt() else { return };
    let _bus = Bus::start(&socket);
    let netifd = Provider::start(&socket, "network.interface", "dump", dump(&json!("wan2")));
    let active = json!({"mwan3": {"instances": {"rtmon_ipv4": {"running": true}}}});
    let procd = Provider::start(&socket, "service", "list", active);
    lab.router(0).start().unwrap();
    let status =
        wait(&lab, "told why", |status| status.wans.iter().all(|w| w.why.starts_with("mwan3")));
    assert!(status.wans.iter().all(|wan| wan.state == WanState::Down));
    let taken_over = || {
        let nft = lab.router(0).ns().output("nft", &["list", "ruleset"]).unwrap();
        String::from_utf8_lossy(&nft.stdout).contains("redirect")
    };
    wait_until("nothing is taken over", || !taken_over()).await;
    procd.change(json!({}));
    netifd.change(dump(&json!("wan2")));
    wait(&lab, "all up once it is gone", all_up);
}

/// A ubusd that talks nonsense, each time another one.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_bus_does_no_harm() {
    let Some((lab, socket)) = openwrt() else { return };
    let listener = UnixListener::bind(&socket).unwrap();
    lab.router(0).start().unwrap();
    let hello = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4];
    // The answers to the registration of its two objects, then a call of the first.
    let added = |seq: u8, object: u8| {
        let mut data = vec![0, 2, 0, seq, 0, 0, 0, 1, 0, 0, 0, 12, 3, 0, 0, 8, 0, 0, 0, object];
        data.extend([0, 1, 0, seq, 0, 0, 0, 1, 0, 0, 0, 12, 1, 0, 0, 8, 0, 0, 0, 0]);
        data
    };
    let call = |rest: &[u8]| {
        let mut bytes = [hello.to_vec(), added(1, 7), added(2, 8)].concat();
        let length = u8::try_from(4 + 8 + rest.len()).unwrap();
        bytes.extend([0, 5, 0, 9, 0, 0, 0, 2, 0, 0, 0, length, 3, 0, 0, 8, 0, 0, 0, 7]);
        bytes.extend(rest);
        bytes
    };
    let nonsense: Vec<Vec<u8>> = vec![
        vec![0xff; 64],
        [&hello[..], &[0, 5, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff]].concat(),
        [&hello[..], &[0, 200, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4]].concat(),
        // A method whose attribute is longer than the message; data that end within a name.
        call(&[4, 0, 0xff, 0xff, b's', b't', 0, 0]),
        call(&[
            4, 0, 0, 11, b's', b't', b'a', b't', b'u', b's', 0, 0, 0x87, 0, 0, 8, 0xff, 0xff, 0, 0,
        ]),
        call(&[7, 0, 0, 3]),
        call(&[]),
    ];
    for bytes in nonsense {
        let (mut daemon, _) = listener.accept().unwrap();
        daemon.write_all(&bytes).unwrap();
        daemon.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let _ = daemon.read(&mut [0; 4096]);
        drop(daemon);
        assert_eq!(lab.router(0).ended(), None, "{}", lab.router(0).log());
        lab.router(0).status().expect("the daemon answers");
    }
}

/// A document without its values.
fn shape(of: &Value) -> Value {
    match of {
        Value::Object(fields) => fields
            .iter()
            // Measurements come and go between two looks; events are numbered.
            .filter(|(name, _)| *name != "events")
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(elements) => elements.iter().map(shape).collect(),
        Value::Null | Value::Number(_) => Value::Null,
        Value::String(_) => "text".into(),
        Value::Bool(_) => true.into(),
    }
}
