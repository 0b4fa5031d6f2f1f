//! Many, slow, and rude: what is over leaves nothing open, in neither daemon.

mod common;

use std::time::Duration;

use common::{connect, is_reset, listen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, http, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, SECOND_V4};
use wanbond_lab::traffic::{connections, origin};

/// Open descriptors of router and server, lanes not counted.
fn descriptors(lab: &Lab) -> (usize, usize) {
    let router = lab.router(0).status().unwrap();
    let lanes = (router.lanes.idle + router.lanes.busy) as usize;
    let at_server: u32 = lab.server().status().unwrap().routers.iter().map(|r| r.lanes).sum();
    let router = lab.router(0).usage().unwrap().descriptors;
    let server = lab.server().usage().unwrap().descriptors;
    (router.saturating_sub(lanes), server.saturating_sub(at_server as usize))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_end_gives_its_descriptors_back() {
    let Some(lab) = running(QUICK) else { return };
    let at_start = descriptors(&lab);
    let echo = (ORIGIN_V4, origin::ECHO).into();
    for round in 0..5 {
        // In order; refused; left half-closed and dropped; reset in the middle of a download.
        let done = connections(lab.lan(0), http(), 100, 25, 500, PATIENCE).await;
        assert_eq!((done.ok, done.failed), (100, 0), "{:?}", done.errors);
        for port in 0..10 {
            let mut client = connect(lab.lan(0), (SECOND_V4, 6000 + port).into()).await;
            assert!(is_reset(&mut client).await, "refused, round {round}");
        }
        let mut rude = Vec::new();
        for _ in 0..10 {
            let mut client = connect(lab.lan(0), http()).await;
            client.write_all(b"GET /bytes/4000000?seed=1 HTTP/1.1\r\n\r\n").await.unwrap();
            let mut some = [0; 10_000];
            timeout(PATIENCE, client.read_exact(&mut some)).await.unwrap().unwrap();
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            rude.push(client);
        }
        drop(rude);
        for _ in 0..10 {
            let mut client = connect(lab.lan(0), echo).await;
            client.shutdown().await.unwrap();
        }
    }
    wait_until("no flow is open at either end", || {
        lab.router(0).status().is_ok_and(|s| s.flows.active == 0 && s.lanes.busy == 0)
            && lab.server().status().is_ok_and(|s| s.flows.active == 0)
            && lab.origin().open() == 0
    })
    .await;
    // A few come and go with the status questions themselves.
    wait_until("the descriptors are those of the start, and lanes", || {
        let now = descriptors(&lab);
        now.0 <= at_start.0 + 4 && now.1 <= at_start.1 + 4
    })
    .await;
    let lanes = lab.router(0).status().unwrap().lanes;
    wait_until("both ends agree on the lanes", || {
        let idle = lab.router(0).status().unwrap().lanes.idle;
        lab.server().status().unwrap().routers[0].lanes.abs_diff(idle) <= 1
    })
    .await;
    println!("lanes opened for 650 flows: {lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_quiet_aborts_cost_few_lanes() {
    let Some(lab) = running(QUICK) else { return };
    let before = lab.router(0).status().unwrap().lanes;
    let listener = listen(lab.inet(), (SECOND_V4, 7000).into());
    let to = listener.local_addr().unwrap();
    for round in 0..100 {
        let mut client = connect(lab.lan(0), to).await;
        let (mut target, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        client.write_all(b"x").await.unwrap();
        let mut byte = [0];
        timeout(PATIENCE, target.read_exact(&mut byte)).await.unwrap().unwrap();
        let (gone, left) =
            if round % 2 == 0 { (client, &mut target) } else { (target, &mut client) };
        socket2::SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        assert!(is_reset(left).await, "round {round}");
    }
    let after = lab.router(0).status().unwrap();
    assert_eq!(after.flows.reset_total, 100, "{:?}", after.flows);
    let opened = after.lanes.opened_total - before.opened_total;
    assert!(opened <= 20, "{opened} lanes for 100 flows, one after another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_read_stops_the_client_not_the_daemons() {
    let Some(lab) = running("unshaped") else { return };
    let listener = listen(lab.inet(), (SECOND_V4, 7100).into());
    let rss = || (lab.router(0).usage().unwrap().rss, lab.server().usage().unwrap().rss);
    let before = rss();
    let mut client = connect(lab.lan(0), listener.local_addr().unwrap()).await;
    let (mut target, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let block = vec![7; 1 << 20];
    let mut sent = 0_u64;
    // Ends when nothing was taken for a while: every buffer on the way is full.
    while let Ok(written) = timeout(Duration::from_secs(2), client.write(&block)).await {
        sent += written.unwrap() as u64;
        assert!(sent < 1 << 30, "nobody reads, yet everything is taken");
    }
    let after = rss();
    assert!(after.0 < before.0 + (4 << 20), "router: {before:?} {after:?}");
    assert!(after.1 < before.1 + (4 << 20), "server: {before:?} {after:?}");
    // Others are not held up by it.
    let done = connections(lab.lan(0), http(), 50, 5, 10_000, PATIENCE).await;
    assert_eq!((done.ok, done.failed), (50, 0), "{:?}", done.errors);
    // And when it reads again, all of it is there.
    client.shutdown().await.unwrap();
    let (mut received, mut buffer) = (0_u64, vec![0; 1 << 20]);
    loop {
        let read = timeout(PATIENCE, target.read(&mut buffer)).await.unwrap().unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().all(|byte| *byte == 7));
        received += read as u64;
    }
    assert_eq!(received, sent);
}
