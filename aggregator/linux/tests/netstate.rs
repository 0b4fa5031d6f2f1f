//! What we read from the kernel about links, against what `ip` put there.

mod common;

use common::{Neighbour, in_namespace, link, patient, sh, until};
use std::time::Duration;
use wanbond_linux::netstate::Netlink;
use wanbond_linux::prefix::Family;
use wanbond_linux::tun::{Tun, TunOptions};

#[test]
fn a_snapshot_shows_links_addresses_and_gateways() {
    in_namespace(|| async {
        let isp = Neighbour::new();
        link("wan", &["192.0.2.10/24", "2001:db8:1::10/64"], &isp, &["192.0.2.1/24"]);
        link("lte", &["198.51.100.10/24"], &isp, &[]);
        link("dead", &["203.0.113.10/24"], &isp, &[]);
        isp.sh("ip link set dead down");
        sh("ip addr add 192.0.2.11/32 dev wan
            ip addr add 2001:db8:1::11/64 dev wan nodad preferred_lft 0
            ip addr add 10.0.0.1 peer 10.0.0.2 dev lte
            ip route add default via 192.0.2.1 dev wan metric 20
            ip route add default via 198.51.100.1 dev lte metric 10
            ip route add default via 198.51.100.2 dev lte table 500 metric 5
            ip route add default dev lte table 501 proto 119
            ip -6 route add default via fe80::1 dev wan");
        let netlink = Netlink::new().await.unwrap();
        let state = netlink.snapshot().await.unwrap();

        let names: Vec<_> = state.devices.keys().map(String::as_str).collect();
        for name in ["dead", "lo", "lte", "wan"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(state.devices["lo"].loopback && state.devices["lo"].up);
        assert!(state.devices["wan"].up && !state.devices["dead"].up);
        assert_eq!(state.devices["wan"].mtu, 1500);

        let wan = &state.devices["wan"];
        let ips: Vec<_> = wan.addresses.iter().map(|addr| addr.ip.to_string()).collect();
        // The deprecated and the link-local one are left out.
        assert_eq!(ips, ["192.0.2.10", "192.0.2.11", "2001:db8:1::10"]);
        assert_eq!(wan.address(Family::V6).unwrap().prefix_len, 64);
        let (gateway, address) = wan.way_out(Family::V4).unwrap();
        assert_eq!((gateway.via, gateway.metric), (Some("192.0.2.1".parse().unwrap()), 20));
        assert_eq!(address.ip.to_string(), "192.0.2.10");
        let (gateway, _) = wan.way_out(Family::V6).unwrap();
        assert_eq!(gateway.via, Some("fe80::1".parse().unwrap()));

        let lte = &state.devices["lte"];
        let via: Vec<_> = lte.gateways.iter().map(|g| (g.table, g.via.unwrap())).collect();
        // Ours, by its protocol number, is not among them.
        assert_eq!(
            via,
            [(500, "198.51.100.2".parse().unwrap()), (254, "198.51.100.1".parse().unwrap())]
        );
        let peer = lte.addresses.iter().find(|addr| addr.peer.is_some()).unwrap();
        assert_eq!(peer.ip.to_string(), "10.0.0.1");
        assert_eq!(peer.subnet().unwrap().to_string(), "10.0.0.2/32");
        assert_eq!(state.by_address(peer.ip).unwrap().name, "lte");
        assert_eq!(state.by_index(lte.index).unwrap().name, "lte");
    });
}

/// As OpenWrt's netifd sets them: a PPPoE session, and IPv6 routes for the provider's prefix alone.
#[test]
fn a_link_without_gateways_and_one_with_routes_for_some_sources() {
    in_namespace(|| async {
        let isp = Neighbour::new();
        let fibre = ["192.0.2.10/24", "fd00:9::1/64", "2001:db8:1::10/64"];
        link("fibre", &fibre, &isp, &[]);
        let _session = Tun::open("pppoe-wan", &TunOptions::default()).unwrap();
        sh("ip link set pppoe-wan up mtu 1492
            ip addr add 198.51.100.10 peer 198.51.100.1 dev pppoe-wan
            ip route add default dev pppoe-wan metric 10
            ip -6 route add default from 2001:db8:9::/48 via fe80::9 dev fibre metric 384
            ip -6 route add default from 2001:db8:1::/48 via fe80::1 dev fibre metric 512");
        let netlink = Netlink::new().await.unwrap();
        let state = netlink.snapshot().await.unwrap();
        let session = &state.devices["pppoe-wan"];
        assert!(session.up, "its operational state is unknown");
        assert_eq!(session.mtu, 1492);
        let (gateway, address) = session.way_out(Family::V4).unwrap();
        assert_eq!((gateway.via, address.ip.to_string().as_str()), (None, "198.51.100.10"));
        let fibre = &state.devices["fibre"];
        assert!(fibre.way_out(Family::V4).is_none());
        let (gateway, address) = fibre.way_out(Family::V6).unwrap();
        assert_eq!(gateway.via, Some("fe80::1".parse().unwrap()), "nobody has the other's prefix");
        assert_eq!(address.ip.to_string(), "2001:db8:1::10");
    });
}

#[test]
fn changes_are_told() {
    in_namespace(|| async {
        let isp = Neighbour::new();
        link("wan", &[], &isp, &[]);
        let netlink = Netlink::new().await.unwrap();
        for command in [
            "ip addr add 192.0.2.10/24 dev wan",
            "ip route add default via 192.0.2.1",
            "ip rule add from 192.0.2.10 lookup 100",
            "ip -6 rule add from 2001:db8::1 lookup 100",
            "ip addr add 2001:db8::1/64 dev wan nodad",
            "ip -6 route add default dev wan",
            "ip link set wan down",
        ] {
            let mut changes = netlink.changes();
            sh(command);
            patient(command, changes.next()).await;
        }
        let mut changes = netlink.changes();
        sh("ip link set wan up");
        isp.sh("ip link set wan down");
        patient("the other end going down", changes.next()).await;
        until("the carrier's end", || sh("ip link show wan").contains("NO-CARRIER")).await;
        assert!(!netlink.snapshot().await.unwrap().devices["wan"].up);
    });
}

/// Whoever waits for other things too gives up waiting for this one again and again.
#[test]
fn a_change_is_told_to_a_listener_that_is_interrupted() {
    in_namespace(|| async {
        let isp = Neighbour::new();
        link("wan", &[], &isp, &[]);
        let netlink = Netlink::new().await.unwrap();
        let mut changes = netlink.changes();
        sh("ip addr add 192.0.2.10/24 dev wan");
        let interrupted = async {
            while tokio::time::timeout(Duration::from_millis(3), changes.next()).await.is_err() {}
        };
        patient("a change", interrupted).await;
    });
}

#[test]
fn own_addresses_follow() {
    in_namespace(|| async {
        let isp = Neighbour::new();
        link("wan", &["192.0.2.10/24"], &isp, &[]);
        let netlink = Netlink::new().await.unwrap();
        let own = netlink.local_addresses().await.unwrap();
        // The set lives on its own.
        drop(netlink);
        for ip in ["127.0.0.1", "::1", "192.0.2.10", "::ffff:192.0.2.10"] {
            assert!(own.contains(ip.parse().unwrap()), "{ip}");
        }
        let other = "2001:db8::7".parse().unwrap();
        assert!(!own.contains(other));
        sh("ip addr add 2001:db8::7/64 dev wan nodad");
        until("the new address", || own.contains(other)).await;
        sh("ip addr del 2001:db8::7/64 dev wan");
        until("the address to go", || !own.contains(other)).await;
    });
}
