//! WAN tables and rules in a real kernel.

mod common;

use std::io::ErrorKind;

use common::{Neighbour, dump, in_namespace, link, sh};
use wanbond_linux::netstate::Netlink;
use wanbond_linux::prefix::Family;
use wanbond_linux::routing::{OwnedRoute, OwnedRule, RouteKind, RuleAction, WanRoute};
use wanbond_linux::tun::{Tun, TunOptions};

fn wan(number: u32, device: &str, source: &str, prefix_len: u8, gateway: &str) -> WanRoute {
    WanRoute {
        table: 7000 + number,
        device: device.into(),
        source: source.parse().unwrap(),
        prefix_len,
        gateway: (!gateway.is_empty()).then(|| gateway.parse().unwrap()),
        rule_priority: 7000 + number,
    }
}

fn two_wans() -> Vec<WanRoute> {
    vec![
        wan(1, "fibre", "192.0.2.10", 24, "192.0.2.1"),
        wan(1, "fibre", "2001:db8:1::10", 64, "fe80::1"),
        wan(2, "lte", "198.51.100.10", 32, "10.64.64.64"),
    ]
}

fn world() -> Neighbour {
    let isp = Neighbour::new();
    link("fibre", &["192.0.2.10/24", "2001:db8:1::10/64"], &isp, &["192.0.2.1/24"]);
    link("lte", &["198.51.100.10/32"], &isp, &[]);
    link("lan", &["192.168.1.1/24", "fd00:1::1/64"], &isp, &[]);
    isp
}

#[test]
fn each_address_leaves_by_its_own_wan() {
    in_namespace(|| async {
        let _isp = world();
        let before = dump();
        let netlink = Netlink::new().await.unwrap();
        let applied = netlink.apply_wan_routes(&two_wans()).await.unwrap();
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        assert_eq!((applied.added, applied.removed, applied.unchanged), (14, 0, 0));

        let way = |to: &str, from: &str| sh(&format!("ip route get {to} from {from}"));
        let away = way("203.0.113.1", "192.0.2.10");
        assert!(away.contains("via 192.0.2.1 dev fibre table 7001"), "{away}");
        let away = way("203.0.113.1", "198.51.100.10");
        assert!(away.contains("via 10.64.64.64 dev lte table 7002"), "{away}");
        let away = way("2001:db8:99::1", "2001:db8:1::10");
        assert!(away.contains("via fe80::1 dev fibre table 7001"), "{away}");
        // The LAN is reached through the LAN.
        let lan = way("192.168.1.5", "192.0.2.10");
        assert!(lan.contains("dev lan"), "{lan}");
        let lan = way("fd00:1::5", "2001:db8:1::10");
        assert!(lan.contains("dev lan"), "{lan}");

        let settled = dump();
        let again = netlink.apply_wan_routes(&two_wans()).await.unwrap();
        assert!(again.is_noop(), "{again:?}");
        assert_eq!(again.unchanged, 14);
        assert_eq!(dump(), settled);
        // Another instance, such as one after a crash, sees the same.
        let other = Netlink::new().await.unwrap();
        assert!(other.apply_wan_routes(&two_wans()).await.unwrap().is_noop());

        let gone = netlink.apply_wan_routes(&[]).await.unwrap();
        assert_eq!((gone.removed, gone.failed.len()), (14, 0));
        assert_eq!(dump(), before);
    });
}

/// PPPoE, and modems that carry bare IP: there is nobody to be found by ARP.
#[test]
fn a_link_without_gateways_is_a_way_of_its_own() {
    in_namespace(|| async {
        let _isp = world();
        let _session = Tun::open("pppoe-wan", &TunOptions::default()).unwrap();
        sh("ip link set pppoe-wan up
            ip addr add 198.51.100.77 peer 198.51.100.1 dev pppoe-wan
            ip addr add 2001:db8:7::77/64 dev pppoe-wan nodad
            ip route add default via 192.0.2.1 dev fibre");
        let before = dump();
        let netlink = Netlink::new().await.unwrap();
        let mut wans = two_wans();
        wans.push(wan(3, "pppoe-wan", "198.51.100.77", 32, ""));
        wans.push(wan(3, "pppoe-wan", "2001:db8:7::77", 64, ""));
        let applied = netlink.apply_wan_routes(&wans).await.unwrap();
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        for (to, from) in [("203.0.113.1", "198.51.100.77"), ("2001:db8:99::1", "2001:db8:7::77")] {
            let away = sh(&format!("ip route get {to} from {from}"));
            assert!(away.contains("dev pppoe-wan table 7003") && !away.contains("via"), "{away}");
        }
        assert!(netlink.apply_wan_routes(&wans).await.unwrap().is_noop());
        netlink.apply_wan_routes(&[]).await.unwrap();
        assert_eq!(dump(), before);
    });
}

#[test]
fn a_wan_changes_address_gateway_and_state() {
    in_namespace(|| async {
        let _isp = world();
        let netlink = Netlink::new().await.unwrap();
        netlink.apply_wan_routes(&two_wans()).await.unwrap();

        let mut wans = two_wans();
        wans[0].gateway = Some("192.0.2.2".parse().unwrap());
        let applied = netlink.apply_wan_routes(&wans).await.unwrap();
        assert_eq!((applied.added, applied.removed, applied.failed.len()), (1, 1, 0));
        assert!(sh("ip route show table 7001").contains("default via 192.0.2.2"));

        // A new address: the kernel removes the old one's routes by itself.
        sh("ip addr del 192.0.2.10/24 dev fibre; ip addr add 192.0.2.77/24 dev fibre");
        wans[0].source = "192.0.2.77".parse().unwrap();
        let applied = netlink.apply_wan_routes(&wans).await.unwrap();
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        assert!(sh("ip rule show").contains("from 192.0.2.77 lookup 7001"));
        assert!(!sh("ip rule show").contains("192.0.2.10"));
        assert!(netlink.apply_wan_routes(&wans).await.unwrap().is_noop());

        // The device goes down: what has its address finds no way, rather than another WAN's.
        sh("ip route add default via 192.0.2.1 metric 9; ip link set lte down");
        let lost = std::process::Command::new("ip")
            .args(["route", "get", "203.0.113.1", "from", "198.51.100.10"])
            .output()
            .unwrap();
        assert!(!lost.status.success());
        let applied = netlink.apply_wan_routes(&wans).await.unwrap();
        assert_eq!(applied.failed.len(), 1, "{:?}", applied.failed);
        sh("ip link set lte up");
        let applied = netlink.apply_wan_routes(&wans).await.unwrap();
        assert_eq!((applied.added, applied.failed.len()), (1, 0));

        // The device is pulled.
        sh("ip link del lte");
        let applied = netlink.apply_wan_routes(&wans).await.unwrap();
        let told: Vec<_> = applied.failed.iter().map(ToString::to_string).collect();
        assert!(told.iter().all(|text| text.contains("dev lte")), "{told:?}");
        let applied = netlink.apply_wan_routes(&wans[..2]).await.unwrap();
        assert!(applied.failed.is_empty());
        assert!(!sh("ip rule show").contains("7002"));
    });
}

#[test]
fn what_others_made_stays() {
    in_namespace(|| async {
        let _isp = world();
        sh("ip rule add from 192.0.2.10 lookup 300 priority 6000
            ip rule add from 192.0.2.10 lookup 7001 priority 7001
            ip route add default via 192.0.2.99 table 7001
            ip route add 203.0.113.0/24 via 192.0.2.98 table 7001 proto 120
            ip -6 rule add from 2001:db8:1::10 lookup 300 priority 6000
            ip -6 route add default via fe80::99 dev fibre table 7001");
        let before = dump();
        let netlink = Netlink::new().await.unwrap();
        let wans = &two_wans()[..2];
        let applied = netlink.apply_wan_routes(wans).await.unwrap();
        let mut told: Vec<_> =
            applied.failed.iter().map(|f| (f.error.kind(), f.what.clone())).collect();
        told.sort_by(|a, b| a.1.cmp(&b.1));
        // Both default routes' places are taken. The same rule as another's is no conflict, as
        // ours carries our number.
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|(kind, _)| *kind == ErrorKind::AlreadyExists), "{told:?}");
        assert!(told[0].1.starts_with("default via 192.0.2.1"), "{told:?}");
        assert!(told[1].1.starts_with("default6 via fe80::1"), "{told:?}");
        for line in before.lines() {
            assert!(dump().lines().any(|now| now == line), "lost: {line}");
        }
        netlink.apply_wan_routes(&[]).await.unwrap();
        assert_eq!(dump(), before);
    });
}

#[test]
fn general_routes_and_rules() {
    in_namespace(|| async {
        let _isp = world();
        let before = dump();
        let netlink = Netlink::new().await.unwrap();
        let routes = [
            OwnedRoute::unicast(100, "203.0.113.0/24".parse().unwrap(), "lan"),
            OwnedRoute::special(100, "0.0.0.0/0".parse().unwrap(), RouteKind::Blackhole),
            OwnedRoute::special(70_000, "::/0".parse().unwrap(), RouteKind::Unreachable),
            OwnedRoute::special(70_000, "2001:db8::/32".parse().unwrap(), RouteKind::Throw),
        ];
        let mut marked = OwnedRule::new(Family::V4, 500, RuleAction::Table(100));
        marked.fwmark = Some((0x100, 0xff00));
        marked.input = Some("not-there-yet".into());
        let mut local = OwnedRule::new(Family::V6, 501, RuleAction::Table(254));
        local.suppress_prefix_len = Some(0);
        let mut refuse = OwnedRule::new(Family::V6, 502, RuleAction::Unreachable);
        refuse.source = Some("2001:db8::/48".parse().unwrap());
        refuse.destination = Some("2001:db8:1::/48".parse().unwrap());
        let rules = [marked, local, refuse];
        for round in 0..3 {
            let applied = netlink.apply_routing(&routes, &rules).await.unwrap();
            assert!(applied.failed.is_empty(), "{:?}", applied.failed);
            assert_eq!(applied.is_noop(), round > 0, "round {round}: {applied:?}");
        }
        netlink.apply_routing(&[], &[]).await.unwrap();
        assert_eq!(dump(), before);
    });
}
