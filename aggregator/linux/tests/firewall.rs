//! The redirect in a real kernel: what is taken, what is not, and who gets at the port.

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use common::{Neighbour, in_namespace, link, patient, sh};
use tokio::net::TcpStream;
use wanbond_linux::firewall::{FirewallError, Redirect, remove};
use wanbond_linux::owned::Owner;
use wanbond_linux::socket::{ListenOptions, listen, original_dst};

/// A LAN host and the Internet, with the router, which is here, between them.
struct World {
    lan: Neighbour,
    inet: Neighbour,
}

impl World {
    fn new() -> Self {
        let lan = Neighbour::new();
        let inet = Neighbour::new();
        link(
            "br-lan",
            &["192.168.1.1/24", "fd00:1::1/64"],
            &lan,
            &["192.168.1.10/24", "fd00:1::10/64"],
        );
        link(
            "wan",
            &["192.0.2.10/24", "2001:db8:1::10/64"],
            &inet,
            &[
                "192.0.2.1/24",
                "203.0.113.7/32",
                "10.9.9.9/32",
                "2001:db8:1::1/64",
                "2001:db8:7::7/128",
            ],
        );
        lan.sh("ip route add default via 192.168.1.1; ip -6 route add default via fd00:1::1");
        sh("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:1::1
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        inet.sh("ip route add default via 192.0.2.10; ip -6 route add default via 2001:db8:1::10");
        Self { lan, inet }
    }

    async fn connect(&self, from: &Neighbour, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        from.block_on(async { patient("a connection", TcpStream::connect(to)).await })
    }
}

fn redirect(port: u16) -> Redirect {
    Redirect {
        devices: vec!["br-lan".into()],
        port,
        bypass_v4: vec!["203.0.113.7/32".parse().unwrap()],
        bypass_v6: vec!["2001:db8:7::/48".parse().unwrap()],
        ..Redirect::default()
    }
}

#[test]
fn lan_connections_are_taken_and_know_where_they_were_going() {
    in_namespace(|| async {
        let world = World::new();
        let listener = listen("[::]:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        redirect(port).apply().await.unwrap();
        for to in ["203.0.113.5:80", "198.18.0.1:22", "[2001:db8:5::5]:443", "1.2.3.4:65000"] {
            let to = if to.ends_with(":65000") { format!("1.2.3.4:{port}") } else { to.into() };
            let near = world.connect(&world.lan, &to).await.expect(&to);
            let (far, from) = listener.accept().await.unwrap();
            assert_eq!(original_dst(&far).unwrap(), to.parse().unwrap());
            assert_eq!(from.port(), near.local_addr().unwrap().port());
        }
        // On listeners of one family too.
        for (at, to) in [("0.0.0.0", "203.0.113.5:80"), ("[::]", "[2001:db8:5::5]:443")] {
            let options = ListenOptions { v6_only: true, ..ListenOptions::default() };
            // On a port of its own: a process just forked by another test may still hold the last.
            let listener = listen(format!("{at}:0").parse().unwrap(), &options).unwrap();
            redirect(listener.local_addr().unwrap().port()).apply().await.unwrap();
            let _near = world.connect(&world.lan, to).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            assert_eq!(original_dst(&far).unwrap(), to.parse().unwrap());
        }
    });
}

#[test]
fn private_bypassed_and_own_destinations_are_not_taken() {
    in_namespace(|| async {
        let world = World::new();
        let listener = listen("[::]:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        redirect(listener.local_addr().unwrap().port()).apply().await.unwrap();
        // Bypassed and private ones arrive where they were going.
        for to in ["203.0.113.7:80", "10.9.9.9:80", "[2001:db8:7::7]:80"] {
            let there = world.inet.run(|| TcpListener::bind(to).unwrap());
            world.connect(&world.lan, to).await.expect(to);
            let (_, from) = there.accept().unwrap();
            assert!(from.ip().to_string().contains("10"), "{from}");
        }
        // The router's own addresses are the router's own, the WAN's too.
        for to in ["192.168.1.1:22", "192.0.2.10:22", "[fd00:1::1]:22", "[2001:db8:1::10]:22"] {
            let own = TcpListener::bind(to).unwrap();
            world.connect(&world.lan, to).await.expect(to);
            own.accept().unwrap();
        }
        // What the router itself opens, and what comes from the WAN, isn't the LAN's.
        let there = world.inet.run(|| TcpListener::bind("203.0.113.7:81").unwrap());
        TcpStream::connect("203.0.113.7:81").await.unwrap();
        there.accept().unwrap();
    });
}

#[test]
fn strangers_do_not_reach_the_port() {
    in_namespace(|| async {
        let world = World::new();
        let listener = listen("[::]:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        redirect(port).apply().await.unwrap();
        for (who, from) in [("wan", &world.inet), ("lan", &world.lan)] {
            for ip in ["192.0.2.10", "[2001:db8:1::10]", "192.168.1.1", "[fd00:1::1]"] {
                let error = world.connect(from, &format!("{ip}:{port}")).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip} from the {who}");
            }
        }
        let error = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_table_is_replaced_and_removed_and_others_stay() {
    in_namespace(|| async {
        sh("nft add table inet other; nft add chain inet other c '{ type nat hook prerouting \
            priority dstnat; }'; nft add rule inet other c tcp dport 53 redirect to :5353");
        let before = sh("nft list ruleset");
        redirect(65100).apply().await.unwrap();
        let first = sh("nft list ruleset");
        assert!(first.starts_with(&before) || first.contains(before.trim()), "{first}");
        redirect(65100).apply().await.unwrap();
        assert_eq!(sh("nft list ruleset"), first);
        redirect(65200).apply().await.unwrap();
        assert!(!sh("nft list ruleset").contains("65100"));
        assert!(!remove(Owner::Server.nft_table()).await.unwrap());
        assert!(remove(Owner::Router.nft_table()).await.unwrap());
        assert!(!remove(Owner::Router.nft_table()).await.unwrap());
        assert_eq!(sh("nft list ruleset"), before);
        // A LAN of one family, and no LAN at all.
        Redirect { ipv6: false, ..redirect(1) }.apply().await.unwrap();
        Redirect { ipv4: false, ..redirect(1) }.apply().await.unwrap();
        Redirect { devices: Vec::new(), ..redirect(1) }.apply().await.unwrap();
        assert!(remove(Owner::Router.nft_table()).await.unwrap());
    });
}

#[test]
fn refusals_carry_nfts_words() {
    in_namespace(|| async {
        // Port 0 renders and is nonsense.
        let error = Redirect { port: 0, ..redirect(0) }.apply().await;
        if let Err(error) = error {
            assert!(matches!(error, FirewallError::Refused(ref words) if !words.is_empty()));
        }
    });
}
