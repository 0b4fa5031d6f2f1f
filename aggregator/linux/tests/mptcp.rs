//! MPTCP connections over two paths, and the endpoints that make the second one.

mod common;

use common::{Neighbour, in_namespace, link, patient, sh, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wanbond_linux::mptcp_pm::{DesiredEndpoint, Limits, PathManager};
use wanbond_linux::netstate::Netlink;
use wanbond_linux::owned::{Journal, Owner};
use wanbond_linux::routing::WanRoute;
use wanbond_linux::socket::{
    ConnectOptions, ListenOptions, abort, connect, listen, mptcp_info, mptcp_info_supported,
    mptcp_supported, subflows, unsent_bytes,
};

fn want(address: &str) -> DesiredEndpoint {
    DesiredEndpoint { address: address.parse().unwrap(), ifindex: None, backup: false }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open_in(dir.path(), Owner::Router).unwrap();
    (dir, journal)
}

/// Two links to one server, with a WAN table each.
async fn two_paths() -> (Neighbour, Netlink) {
    let server = Neighbour::new();
    link(
        "one",
        &["192.0.2.1/24", "2001:db8:1::1/64"],
        &server,
        &["192.0.2.2/24", "2001:db8:1::2/64"],
    );
    link("two", &["198.51.100.1/24"], &server, &["198.51.100.2/24"]);
    let netlink = Netlink::new().await.unwrap();
    let route = |number: u32, device: &str, source: &str, gateway: &str| WanRoute {
        table: 7000 + number,
        device: device.into(),
        source: source.parse().unwrap(),
        prefix_len: 24,
        gateway: Some(gateway.parse().unwrap()),
        rule_priority: 7000 + number,
    };
    let wans = [
        route(1, "one", "192.0.2.1", "192.0.2.2"),
        route(2, "two", "198.51.100.1", "198.51.100.2"),
    ];
    let applied = netlink.apply_wan_routes(&wans).await.unwrap();
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    (server, netlink)
}

/// Both ends of a connection, and the listener: joins come in through it, so it has to stay.
async fn pair(
    server: &Neighbour,
    client: bool,
    listener: bool,
    at: &str,
) -> (TcpStream, TcpStream, TcpListener) {
    let options = ListenOptions { mptcp: listener, ..ListenOptions::default() };
    let listener = server.run(|| listen(at.parse().unwrap(), &options)).unwrap();
    let options = ConnectOptions {
        mptcp: client,
        source: at.starts_with("192").then(|| "192.0.2.1".parse().unwrap()),
        congestion: Some("reno".into()),
        notsent_lowat: Some(1 << 17),
        ..ConnectOptions::default()
    };
    let remote = listener.local_addr().unwrap();
    let (near, far) = patient("a connection", async {
        tokio::join!(connect(remote, &options), listener.accept())
    })
    .await;
    (near.unwrap(), far.unwrap().0, listener)
}

#[test]
fn a_connection_uses_both_paths() {
    in_namespace(|| async {
        assert!(mptcp_supported() && mptcp_info_supported());
        let (server, _netlink) = two_paths().await;
        let (_dir, journal) = journal();
        let manager = PathManager::new().await.unwrap();
        manager.raise_limits(Limits::MAX, &journal).await.unwrap();
        server.block_on(async {
            PathManager::new().await.unwrap().set_limits(Limits::MAX).await.unwrap();
        });
        let wanted = [want("192.0.2.1"), want("198.51.100.1")];
        manager.apply(&wanted, &journal).await.unwrap();

        let (mut near, mut far, _listener) = pair(&server, true, true, "192.0.2.2:0").await;
        near.write_all(b"x").await.unwrap();
        far.read_exact(&mut [0]).await.unwrap();
        assert!(mptcp_info(&far).unwrap().is_some());
        until("the second subflow", || mptcp_info(&near).unwrap().unwrap().subflows == 2).await;

        let flows = subflows(&near).unwrap();
        let mut ends: Vec<_> =
            flows.iter().map(|flow| (flow.local.ip().to_string(), flow.remote)).collect();
        ends.sort();
        let remote = near.peer_addr().unwrap();
        assert_eq!(ends, [("192.0.2.1".into(), remote), ("198.51.100.1".into(), remote)]);
        assert!(flows.iter().all(|flow| flow.tcp.mss > 0 && flow.tcp.cwnd > 0));

        // A WAN dies: without its endpoint the connection goes on over the other.
        manager.apply(&wanted[1..], &journal).await.unwrap();
        until("the first subflow to go", || {
            subflows(&near).unwrap().iter().all(|flow| flow.local.ip().to_string() != "192.0.2.1")
        })
        .await;
        // And one more time all the way, then it comes back.
        let text = vec![7_u8; 1 << 20];
        let mut got = vec![0; text.len()];
        let (sent, received) = patient("a megabyte over the second path", async {
            tokio::join!(near.write_all(&text), far.read_exact(&mut got))
        })
        .await;
        sent.unwrap();
        received.unwrap();
        assert!(got == text);
        until("everything to be sent", || unsent_bytes(&near).unwrap() == 0).await;
        manager.apply(&wanted, &journal).await.unwrap();
        until("the path's return", || {
            subflows(&near).unwrap().iter().any(|flow| flow.local.ip().to_string() == "192.0.2.1")
        })
        .await;
        let info = mptcp_info(&near).unwrap().unwrap();
        assert!(info.bytes_sent.is_none_or(|bytes| bytes > 1 << 20));
    });
}

#[test]
fn plain_tcp_on_either_side_is_told_apart() {
    in_namespace(|| async {
        let (server, _netlink) = two_paths().await;
        for at in ["192.0.2.2:0", "[2001:db8:1::2]:0"] {
            for (client, listener) in [(true, true), (true, false), (false, true), (false, false)] {
                let (near, far, _listener) = pair(&server, client, listener, at).await;
                let expected = client && listener;
                let told = format!("{at}: client {client}, listener {listener}");
                assert_eq!(mptcp_info(&near).unwrap().is_some(), expected, "{told}");
                assert_eq!(mptcp_info(&far).unwrap().is_some(), expected, "{told}");
                assert_eq!(subflows(&near).unwrap().len(), usize::from(expected), "{told}");
                assert_eq!(unsent_bytes(&near).unwrap(), 0);
            }
        }
        // Switched off, everything still connects.
        sh("sysctl -qw net.mptcp.enabled=0");
        assert!(!mptcp_supported());
        let (near, _far, _listener) = pair(&server, true, true, "192.0.2.2:0").await;
        assert!(mptcp_info(&near).unwrap().is_none());
    });
}

#[test]
fn an_abort_over_links_is_a_reset() {
    in_namespace(|| async {
        let (server, _netlink) = two_paths().await;
        for mptcp in [true, false] {
            let (mut near, mut far, _listener) = pair(&server, mptcp, true, "192.0.2.2:0").await;
            near.write_all(b"x").await.unwrap();
            far.read_exact(&mut [0]).await.unwrap();
            far.write_all(b"y").await.unwrap();
            near.read_exact(&mut [0]).await.unwrap();
            abort(near);
            let error = patient("the reset", far.read(&mut [0])).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "mptcp {mptcp}");
        }
    });
}

#[test]
fn endpoints_come_and_go() {
    in_namespace(|| async {
        let (_server, netlink) = two_paths().await;
        let (dir, journal) = journal();
        let manager = PathManager::new().await.unwrap();
        let before = sh("ip mptcp endpoint show");
        let wanted = [want("192.0.2.1"), want("198.51.100.1")];
        let first = manager.apply(&wanted, &journal).await.unwrap();
        assert_eq!(first.added.len(), 2);
        assert_eq!(journal.endpoints(), first.added);
        let shown = sh("ip mptcp endpoint show");
        assert!(shown.contains("192.0.2.1 id 1 subflow"), "{shown}");
        assert!(manager.apply(&wanted, &journal).await.unwrap().is_noop());
        assert_eq!(sh("ip mptcp endpoint show"), shown);

        // Away and back is another id.
        let away = manager.apply(&wanted[..1], &journal).await.unwrap();
        assert_eq!(away.removed, first.added[1..]);
        let back = manager.apply(&wanted, &journal).await.unwrap();
        assert_eq!((back.added[0].id, back.removed.len()), (3, 0));

        // After a crash the ids go on, and what is ours still is.
        let reopened = Journal::open_in(dir.path(), Owner::Router).unwrap();
        assert!(manager.apply(&wanted, &reopened).await.unwrap().is_noop());

        // Backup is changed in place; another link takes a new endpoint.
        let mut changed = wanted;
        changed[0].backup = true;
        let applied = manager.apply(&changed, &reopened).await.unwrap();
        assert_eq!((applied.changed, applied.added.len()), (1, 0));
        let listed = manager.list().await.unwrap();
        assert!(listed.iter().any(|e| e.id == Some(1) && e.flags.backup && e.flags.subflow));
        let two = netlink.snapshot().await.unwrap().devices["two"].index;
        changed[1].ifindex = Some(two);
        let applied = manager.apply(&changed, &reopened).await.unwrap();
        assert_eq!((applied.removed[0].id, applied.added[0].id), (3, 4));
        let shown = sh("ip mptcp endpoint show");
        assert!(shown.contains("198.51.100.1 id 4 subflow dev two"), "{shown}");
        assert!(manager.apply(&changed, &reopened).await.unwrap().is_noop());

        manager.apply(&[], &reopened).await.unwrap();
        assert_eq!(sh("ip mptcp endpoint show"), before);
        assert!(reopened.is_clean());
        assert!(!manager.remove(77).await.unwrap());
    });
}

#[test]
fn others_endpoints_are_used_and_left() {
    in_namespace(|| async {
        let (_server, _netlink) = two_paths().await;
        let (_dir, journal) = journal();
        let manager = PathManager::new().await.unwrap();
        sh("ip mptcp endpoint add 192.0.2.1 id 1 subflow backup
            ip mptcp endpoint add 2001:db8:1::1 id 2 signal");
        let before = sh("ip mptcp endpoint show");
        let wanted = [want("192.0.2.1"), want("198.51.100.1")];
        for round in 0..2 {
            let applied = manager.apply(&wanted, &journal).await.unwrap();
            assert_eq!(applied.foreign.len(), 1);
            assert_eq!(applied.foreign[0].id, Some(1));
            assert!(applied.failed.is_empty(), "{:?}", applied.failed);
            // Our id is none of those in use.
            assert_eq!(applied.added.iter().map(|e| e.id).collect::<Vec<_>>(), [3][round..]);
        }
        // Somebody takes all away: ours come back, under ids of their own.
        sh("ip mptcp endpoint flush");
        let applied = manager.apply(&wanted, &journal).await.unwrap();
        assert_eq!(applied.added.iter().map(|e| e.id).collect::<Vec<_>>(), [4, 5]);
        sh("ip mptcp endpoint flush
            ip mptcp endpoint add 192.0.2.1 id 1 subflow backup
            ip mptcp endpoint add 2001:db8:1::1 id 2 signal
            ip mptcp endpoint add 192.0.2.77 id 4 subflow");
        // An id that was ours and now is another's is not removed.
        manager.apply(&[], &journal).await.unwrap();
        assert!(sh("ip mptcp endpoint show").starts_with(&before));
        assert!(sh("ip mptcp endpoint show").contains("192.0.2.77 id 4"));
        assert!(journal.endpoints().is_empty());
    });
}

#[test]
fn too_many_endpoints_fail_one_by_one() {
    in_namespace(|| async {
        let (_server, _netlink) = two_paths().await;
        let (_dir, journal) = journal();
        let manager = PathManager::new().await.unwrap();
        let wanted: Vec<_> = (1..=40).map(|n| want(&format!("203.0.113.{n}"))).collect();
        let applied = manager.apply(&wanted, &journal).await.unwrap();
        assert!(applied.added.len() >= 8 && !applied.failed.is_empty());
        assert_eq!(journal.endpoints(), applied.added);
        assert_eq!(manager.list().await.unwrap().len(), applied.added.len());
        assert_eq!(manager.apply(&[], &journal).await.unwrap().removed.len(), applied.added.len());
    });
}
