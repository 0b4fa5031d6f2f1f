//! Everything of ours comes out again, and nothing else does.

mod common;

use common::{Neighbour, dump, in_namespace, link, sh};
use wanbond_linux::firewall::Redirect;
use wanbond_linux::mptcp_pm::{DesiredEndpoint, Limits, PathManager};
use wanbond_linux::netstate::Netlink;
use wanbond_linux::owned::{Journal, Owner, cleanup};
use wanbond_linux::routing::WanRoute;
use wanbond_linux::sysctl;

async fn put_everything(journal: &Journal) {
    for name in ["net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_rmem"] {
        let value = if name.ends_with("rmem") { "4096 131072 16777216" } else { "0" };
        sysctl::set(journal, name, value).unwrap();
    }
    let netlink = Netlink::new().await.unwrap();
    let wan = WanRoute {
        table: 7001,
        device: "wan".into(),
        source: "192.0.2.10".parse().unwrap(),
        prefix_len: 24,
        gateway: Some("192.0.2.1".parse().unwrap()),
        rule_priority: 7001,
    };
    assert!(netlink.apply_wan_routes(&[wan]).await.unwrap().failed.is_empty());
    let manager = PathManager::new().await.unwrap();
    manager.raise_limits(Limits::MAX, journal).await.unwrap();
    let endpoint =
        DesiredEndpoint { address: "192.0.2.10".parse().unwrap(), ifindex: None, backup: false };
    assert!(manager.apply(&[endpoint], journal).await.unwrap().failed.is_empty());
    let redirect = Redirect { devices: vec!["br-lan".into()], port: 65100, ..Redirect::default() };
    redirect.apply().await.unwrap();
}

fn world() -> Neighbour {
    let isp = Neighbour::new();
    link("wan", &["192.0.2.10/24", "2001:db8::10/64"], &isp, &["192.0.2.1/24"]);
    sh("ip route add default via 192.0.2.1
        ip rule add from 192.0.2.10 lookup 300 priority 6000
        ip rule add from 192.0.2.11 lookup 300 priority 6001 protocol 120
        ip route add 203.0.113.0/24 via 192.0.2.1 table 7001
        ip mptcp endpoint add 2001:db8::10 id 9 subflow
        nft add table inet other
        nft add table inet wanbond-server");
    isp
}

#[test]
fn cleanup_leaves_the_namespace_as_it_was() {
    in_namespace(|| async {
        let _isp = world();
        let dir = tempfile::tempdir().unwrap();
        let before = dump();
        let journal = Journal::open_in(dir.path(), Owner::Router).unwrap();
        assert!(cleanup(&journal).await.is_noop());
        assert_eq!(dump(), before);

        put_everything(&journal).await;
        assert_ne!(dump(), before);
        // Twice is the same as once.
        let settled = dump();
        put_everything(&journal).await;
        assert_eq!(dump(), settled);

        // A crash: nothing but the file remains of us.
        drop(journal);
        let journal = Journal::open_in(dir.path(), Owner::Router).unwrap();
        let report = cleanup(&journal).await;
        assert!(report.errors.is_empty(), "{report}");
        assert!(report.table && report.limits, "{report}");
        assert_eq!((report.endpoints, report.sysctls), (1, 2));
        assert_eq!(report.routes_and_rules, 4);
        assert_eq!(dump(), before);
        assert!(journal.is_clean() && !journal.path().exists());
        assert!(cleanup(&journal).await.is_noop());
    });
}

#[test]
fn a_setting_changed_by_somebody_else_stays() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_in(dir.path(), Owner::Router).unwrap();
        let name = "net.ipv4.conf.all.rp_filter";
        let before = sysctl::get(name).unwrap();
        let ours = if before == "2" { "1" } else { "2" };
        assert!(sysctl::set(&journal, name, ours).unwrap());
        assert!(!sysctl::set(&journal, name, ours).unwrap());
        sh(&format!("sysctl -qw {name}=0"));
        assert!(cleanup(&journal).await.errors.is_empty());
        assert_eq!(sysctl::get(name).unwrap(), "0");

        let missing = sysctl::set_all(&journal, &[("net.mptcp.no_such_setting", "1"), (name, "1")]);
        assert_eq!(missing.len(), 1);
        assert!(missing[0].to_string().contains("net.mptcp.no_such_setting"));
        assert_eq!(cleanup(&journal).await.sysctls, 1);
        assert_eq!(sysctl::get(name).unwrap(), "0");
    });
}

#[test]
fn forwarding_that_others_need_stays() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_in(dir.path(), Owner::Server).unwrap();
        let name = "net/ipv4/conf/lo/forwarding";
        sh("sysctl -qw net.ipv4.ip_forward=0");
        for (others, left) in [("0", "0"), ("1", "1")] {
            assert!(sysctl::set(&journal, name, "1").unwrap());
            sh(&format!("sysctl -qw net.ipv4.ip_forward={others}"));
            // The kernel sets every device's when the one for all is set.
            if others == "0" {
                sh("sysctl -qw net.ipv4.conf.lo.forwarding=1");
            }
            assert!(cleanup(&journal).await.errors.is_empty());
            assert_eq!(sysctl::get(name).unwrap(), left);
            assert!(journal.is_clean());
        }
    });
}

#[test]
fn namespaces_have_journals_of_their_own() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let here = Journal::open_in(dir.path(), Owner::Router).unwrap();
        let neighbour = Neighbour::new();
        let there = neighbour
            .run(|| Journal::open_in(dir.path(), Owner::Router).unwrap().path().to_owned());
        assert_ne!(here.path(), there);
        let again = Journal::open_in(dir.path(), Owner::Router).unwrap();
        assert_eq!(here.path(), again.path());
    });
}
