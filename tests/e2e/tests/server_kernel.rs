//! The server's kernel is as it was once the server has gone, however it went.

mod common;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, all_up, lab};
use wanbond_lab::KernelState;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::origin;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_puts_its_kernel_back_at_sigterm_and_after_a_kill() {
    let Some(lab) = lab(QUICK) else { return };
    let before = KernelState::capture(lab.vps()).unwrap();
    let changes = || KernelState::capture(lab.vps()).unwrap().changes_since(&before);
    lab.server().start().unwrap();
    assert!(!changes().is_empty(), "it sets something, so that this test tests something");
    assert!(lab.server().stop().unwrap().success());
    assert_eq!(changes(), Vec::<String>::new());

    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    lab.server().kill().unwrap();
    assert!(!changes().is_empty(), "a killed server can't clean up");
    // What was there before the first start comes back, not what the killed one had set.
    lab.server().start().unwrap();
    assert!(lab.server().stop().unwrap().success());
    assert_eq!(changes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_in_order_though_flows_are_open() {
    let Some(lab) = wanbond_e2e::running(QUICK) else { return };
    let mut flow = common::connect(lab.lan(0), (ORIGIN_V4, origin::ECHO).into()).await;
    flow.write_all(b"x").await.unwrap();
    let mut byte = [0];
    timeout(PATIENCE, flow.read_exact(&mut byte)).await.unwrap().unwrap();
    let ended = lab.server().stop().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(common::is_reset(&mut flow).await, "cut short is not the same as ended");
}
