//! Pairing codes, checked before anything is configured; and a daemon that waits to be configured.

use std::path::Path;

use wanbond_control::pairing::{PairingReport, PairingWan};
use wanbond_control::words::TaskState;
use wanbond_control::{MptcpState, Task, Work};
use wanbond_e2e::{PATIENCE, QUICK, lab, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::emulator::Filter;

/// As a package leaves it.
const FRESH: &str = "config wanbond 'globals'\n\toption enabled '0'\n\tlist lan 'lan'\n";

/// A lab with a server, and a router on which wanbond was just installed; and a code for it.
fn fresh() -> Option<(Lab, String)> {
    let lab = lab(QUICK)?;
    lab.server().start().unwrap();
    let config = lab.router(0).pair().unwrap();
    std::fs::write(lab.router(0).config_path(), FRESH).unwrap();
    lab.router(0).start().unwrap();
    Some((lab, config.code))
}

fn report(lab: &Lab, code: &str) -> PairingReport {
    let text = lab.router(0).cli(&["pairing", "--json", code]).unwrap();
    let task: Task = serde_json::from_str(&text).unwrap();
    assert_eq!(task.state, TaskState::Done);
    match task.work {
        Work::Pairing(Some(report)) => *report,
        other => panic!("{other:?}"),
    }
}

fn wan<'a>(report: &'a PairingReport, name: &str) -> &'a PairingWan {
    report.wans.iter().find(|wan| wan.name == name).unwrap_or_else(|| panic!("{report:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_checked_over_every_link_before_anything_is_written() {
    let Some((lab, code)) = fresh() else { return };
    let status = lab.router(0).status().unwrap();
    assert!(!status.enabled && status.wans.is_empty() && status.problem.is_empty(), "{status:?}");
    let found = report(&lab, &code);
    assert!(found.reached && found.mptcp_supported, "{found:?}");
    assert_eq!(found.configured, None);
    assert_eq!(found.wans.len(), 2, "{found:?}");
    for name in ["wan1", "wan2"] {
        let wan = wan(&found, name);
        assert!(wan.reached && wan.udp && wan.tcp && !wan.configured, "{wan:?}");
        assert_eq!((wan.mptcp, wan.why.as_str()), (MptcpState::Working, ""));
        assert!(wan.rtt_ms.is_some_and(|ms| ms >= 10.0), "{wan:?}");
        assert!(wan.public_address.is_some(), "{wan:?}");
    }

    // Each trouble is told of the WAN that has it.
    lab.wan("wan1").set_filter(Filter { strip_mptcp: true, block_udp: true }).unwrap();
    lab.wan("wan2").cut().unwrap();
    let found = report(&lab, &code);
    let first = wan(&found, "wan1");
    assert!(first.reached && !first.udp && first.tcp, "{first:?}");
    // Told to be stripped, or, on a machine so busy that the SYN went twice, not known.
    assert_ne!(first.mptcp, MptcpState::Working);
    assert!(first.why.contains("UDP to port 65101 does not get through"), "{first:?}");
    let second = wan(&found, "wan2");
    assert!(!second.reached && second.why.starts_with("no answer from"), "{second:?}");
    assert_eq!(lab.router(0).kernel_changes().unwrap(), Vec::<String>::new());

    // Codes that don't work, in words.
    lab.wan("wan1").set_filter(Filter::default()).unwrap();
    let said = |code: &str| lab.router(0).cli(&["pairing", code]).unwrap_err().to_string();
    assert!(
        said("hello").contains("a pairing code starts with \"wanbond1:\""),
        "{}",
        said("hello")
    );
    assert!(said(&code[..code.len() - 3]).contains("cut or mistyped"));
    lab.server().remove_router("router1").unwrap();
    wait_until("the server has forgotten it", || {
        lab.router(0)
            .cli(&["pairing", &code])
            .is_err_and(|error| error.to_string().contains("the server does not know this router"))
    })
    .await;
    lab.server().stop().unwrap();
    assert!(said(&code).contains("no answer from"), "{}", said(&code));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_router_stays_so_while_its_own_code_is_checked() {
    let Some(lab) = wanbond_e2e::running(QUICK) else { return };
    let code = code(&lab.router(0).config_path());
    let before = lab.router(0).status().unwrap();
    let found = report(&lab, &code);
    assert_eq!(found.configured.as_deref(), Some("vps"));
    assert!(found.wans.iter().all(|wan| wan.reached && wan.configured), "{found:?}");
    let after = lab.router(0).status().unwrap();
    assert_eq!(after.server.unwrap().state, before.server.unwrap().state);
    let news: Vec<_> = after.events.iter().skip(before.events.len()).collect();
    assert!(news.is_empty(), "{news:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_waited_for() {
    let Some((lab, _)) = fresh() else { return };
    let router = lab.router(0);
    router.stop().unwrap();
    let right = FRESH.replace("'0'", "'1'");
    std::fs::write(router.config_path(), &right).unwrap();
    router.start().unwrap();
    let problem = router.status().unwrap().problem;
    assert!(problem.contains("there is no server") && problem.contains("no WAN"), "{problem}");
    assert!(router.cli(&["diagnose"]).unwrap().contains("there is no server"));
    assert_eq!(router.kernel_changes().unwrap(), Vec::<String>::new());
    router.pair().expect_err("it is admitted already");
    lab.server().remove_router("router1").unwrap();
    router.pair().unwrap();
    router.reload().unwrap();
    let ready = router.wait_ready(PATIENCE).unwrap();
    assert_eq!(ready.problem, "");
    // One that turns wrong keeps out.
    std::fs::write(router.config_path(), &right).unwrap();
    router.reload().unwrap();
    let told = |status: &wanbond_control::Status| !status.problem.is_empty() && status.enabled;
    router.wait_status(PATIENCE, "the problem is told", told).unwrap();
}

fn code(config: &Path) -> String {
    let text = std::fs::read_to_string(config).unwrap();
    let line = text.lines().find(|line| line.contains("option code")).unwrap();
    line.split('\'').nth(1).unwrap().to_owned()
}
