use super::etcd::{Access, Entry};
use super::*;
use crate::limits::RouterLimits;
use wanbond_proto::keys::PresharedKey;

pub(crate) fn settings() -> Settings {
    let urls = vec!["http://127.0.0.1:9".into()];
    Settings {
        access: Access { urls, ..Access::default() },
        prefix: "/wanbond/".into(),
        key: FleetKey::draw().unwrap(),
    }
}

fn router(name: &str) -> RouterEntry {
    RouterEntry {
        name: name.into(),
        public_key: PublicKey::from_bytes([7; 32]),
        psk: PresharedKey::from_bytes([8; 32]),
        created: 5,
        limits: RouterLimits { flows: Some(9), ..RouterLimits::default() },
        enabled: false,
        inner: 3,
        forwards: Vec::new(),
        shared: true,
    }
}

fn entry(fleet: &Fleet, name: &str, value: &[u8]) -> Entry {
    let value = fleet.key.seal(name, value).unwrap();
    Entry { key: fleet.at(name).into_bytes(), value, revision: 4 }
}

fn listing(entries: Vec<Entry>) -> Listing {
    Listing { revision: 9, entries }
}

#[test]
fn routers_and_servers_are_read_and_all_else_is_told_of() {
    let fleet = Fleet::new(&settings()).unwrap();
    let member = Member::new(
        PublicKey::from_bytes([1; 32]),
        &["vps.example".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()],
    )
    .unwrap();
    let home = router("home");
    let mut entries = vec![
        entry(&fleet, "fleet", MARKER_VALUE),
        entry(&fleet, "routers/home", router_to_text(&home).as_bytes()),
        entry(&fleet, "servers/vps.example:65101", member.to_text().as_bytes()),
        entry(&fleet, "routers/no.toml", b"public_key = 3"),
        entry(&fleet, "routers/../x", router_to_text(&home).as_bytes()),
        entry(&fleet, "routers/", router_to_text(&home).as_bytes()),
        entry(&fleet, "routers/bytes", &[0xff, 0xfe]),
        entry(&fleet, "routers/long", &[b'#'; LONGEST_VALUE]),
        entry(&fleet, "servers/none", b"public_key = \"x\"\nendpoints = []"),
        entry(&fleet, "else", b""),
    ];
    // One router's value under another's name, and what was never sealed.
    let moved = entries[1].value.clone();
    entries.push(Entry { key: b"/wanbond/routers/moved".to_vec(), value: moved, revision: 1 });
    let plain = router_to_text(&home).into_bytes();
    entries.push(Entry { key: b"/wanbond/routers/plain".to_vec(), value: plain, revision: 1 });
    entries.push(Entry { key: vec![0xff; 5], value: Vec::new(), revision: 1 });

    let list = fleet.understand(listing(entries)).unwrap();
    assert_eq!(list.revision, 9);
    let kept = RouterEntry { inner: 0, ..home };
    assert_eq!(list.routers, [Listed { entry: kept, revision: 4 }]);
    assert_eq!(list.servers, [member]);
    let bad: Vec<_> = list.bad.iter().map(|bad| bad.name.as_str()).collect();
    assert_eq!(
        bad,
        [
            "routers/no.toml",
            "routers/../x",
            "routers/",
            "routers/bytes",
            "routers/long",
            "servers/none",
            "else",
            "routers/moved",
            "routers/plain"
        ]
    );
    assert!(list.has("home") && list.has("moved") && !list.has("gone"));
}

#[test]
fn an_emptied_etcd_and_a_stranger_s_are_not_believed() {
    let fleet = Fleet::new(&settings()).unwrap();
    let home = entry(&fleet, "routers/home", router_to_text(&router("home")).as_bytes());
    for entries in [vec![], vec![home.clone()]] {
        let error = fleet.understand(listing(entries)).unwrap_err();
        assert!(matches!(error, FleetError::NoFleet(_)), "{error}");
    }
    let other = Fleet::new(&settings()).unwrap();
    for marker in [entry(&other, "fleet", MARKER_VALUE), entry(&fleet, "fleet", b"format 2")] {
        let error = fleet.understand(listing(vec![marker, home.clone()])).unwrap_err();
        assert!(matches!(error, FleetError::OtherKey(_)), "{error}");
    }
}
