//! A flow that runs goes on on another lane, whatever is on its way at that moment, in either direction:
//! every byte arrives once and in order, and the lane that it leaves ends in order.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::lane::{FlowKeys, Open, RecordType, Target};
use wanbond_relay::{FlowEnd, LaneFault, LaneStream, Pump, Side, Traffic};

use crate::support::{Lane, Noise, accept_open, is_reset, tcp_pair, within};

type End = (LaneStream, FlowKeys);

/// Both ends of a lane on which a flow is asked for; the server's answer is still to come.
async fn asked() -> (End, End) {
    let mut lane = Lane::new(Suite::Aes128Gcm).await;
    let id = lane.sessions.0.next_flow_id();
    let target = Target::Name("target.example".into(), 80);
    let open = Open { instead_of: Vec::new(), handover: false, target };
    let keys = lane.router.queue_open(&lane.sessions.0, id, &open);
    lane.router.flush().await.unwrap();
    let server_keys = accept_open(&mut lane.server, &lane.sessions.1, RecordType::Open).await;
    ((lane.router, keys), (lane.server, server_keys))
}

/// Waits for the server's answer: none, where the flow was over before.
async fn answered((mut lane, mut keys): End) -> Option<End> {
    let frame = lane.frame().await.ok()?;
    let record = frame.open(&mut keys.open, lane.frame_bytes(&frame)).unwrap();
    assert_eq!(record.kind, RecordType::Connected);
    lane.consume(&frame);
    Some((lane, keys))
}

/// The server's part: goes on where it is told to.
async fn serve(
    target: TcpStream,
    (mut lane, mut keys): End,
    next: oneshot::Receiver<End>,
) -> Result<FlowEnd, LaneFault> {
    let traffic = Traffic::default();
    let mut pump = Pump::new(Side::Server, target, &mut lane, &mut keys, &traffic);
    tokio::select! {
        end = pump.run() => return end,
        Ok((lane, keys)) = next => pump.hand_over(lane, keys),
    }
    pump.run().await
}

/// The router's: after so many bytes it tells the server where to go on.
async fn carry(
    client: TcpStream,
    (mut lane, mut keys): End,
    after: usize,
    tell: oneshot::Sender<End>,
    next: (End, End),
) -> (Result<FlowEnd, LaneFault>, [usize; 2], bool) {
    let traffic = Traffic::default();
    let mut pump = Pump::new(Side::Router, client, &mut lane, &mut keys, &traffic);
    let mut asking = None;
    let mut tell = Some((tell, next));
    let mut handed_over = false;
    let end = loop {
        let after = if tell.is_some() { after } else { usize::MAX };
        tokio::select! {
            end = pump.run_for(after) => match end {
                Ok(Some(end)) => break Ok(end),
                Err(fault) => break Err(fault),
                Ok(None) => {
                    pump.expect_handover();
                    let (tell, (router, server)) = tell.take().unwrap();
                    asking = Some(Box::pin(async {
                        // Dropped, if the flow is over there.
                        let _ = tell.send(server);
                        answered(router).await
                    }));
                }
            },
            next = async { asking.as_mut().unwrap().await }, if asking.is_some() => {
                asking = None;
                if let Some((lane, keys)) = next {
                    handed_over = true;
                    pump.hand_over(lane, keys);
                }
            }
        }
    };
    drop(pump);
    let moved = [&traffic.sent, &traffic.received].map(|bytes| bytes.load(Ordering::Relaxed));
    (end, moved, handed_over)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_arrives_once_and_in_order() {
    within(async {
        let mut handed_over = 0;
        for seed in 1..40u64 {
            let noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            handed_over += u32::from(a_flow_is_handed_over(noise).await);
        }
        assert!(handed_over > 4, "{handed_over}");
    })
    .await;
}

async fn a_flow_is_handed_over(mut noise: Noise) -> bool {
    let mut size = || {
        let most = if noise.next().is_multiple_of(4) { 900 } else { 2_500_000 };
        (noise.next() % most) as usize
    };
    let (up, down) = (size(), size());
    // Often in the middle, at times after the last byte of one direction.
    let after = noise.next() as usize % (up + down + 1);
    let (up, down) = (noise.bytes(up), noise.bytes(down));
    let (first, server) = asked().await;
    let next = asked().await;
    let (target, server_plain) = tcp_pair().await;
    let (client, router_plain) = tcp_pair().await;
    let (tell, told) = oneshot::channel();
    let (mut from_target, mut to_target) = target.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut at_client, mut at_target) = (Vec::new(), Vec::new());
    let (served, carried, ..) = tokio::join!(
        serve(server_plain, server, told),
        carry(router_plain, first, after, tell, next),
        async {
            to_client.write_all(&up).await.unwrap();
            to_client.shutdown().await.unwrap();
        },
        async {
            to_target.write_all(&down).await.unwrap();
            to_target.shutdown().await.unwrap();
        },
        async { from_client.read_to_end(&mut at_client).await.unwrap() },
        async { from_target.read_to_end(&mut at_target).await.unwrap() },
    );
    let (end, moved, handed_over) = carried;
    assert_eq!((end.unwrap(), served.unwrap()), (FlowEnd::Complete, FlowEnd::Complete));
    assert!(at_target == up, "at the target {} of {} bytes", at_target.len(), up.len());
    assert!(at_client == down, "at the client {} of {} bytes", at_client.len(), down.len());
    assert_eq!(moved, [up.len(), down.len()]);
    handed_over
}

/// The flow's lane and the next, both ends running, with the handover begun and data in both directions.
async fn in_between() -> (TcpStream, TcpStream, [tokio::task::JoinHandle<bool>; 2]) {
    let (first, server) = asked().await;
    let (mut target, server_plain) = tcp_pair().await;
    let (mut client, router_plain) = tcp_pair().await;
    let (tell, told) = oneshot::channel();
    let serving = tokio::spawn(async move {
        matches!(serve(server_plain, server, told).await, Ok(FlowEnd::Complete))
    });
    let next = asked().await;
    let carrying = tokio::spawn(async move {
        matches!(carry(router_plain, first, 10_000, tell, next).await.0, Ok(FlowEnd::Complete))
    });
    client.write_all(&[1; 300_000]).await.unwrap();
    target.write_all(&[2; 300_000]).await.unwrap();
    (client, target, [serving, carrying])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_in_between_is_told_of() {
    within(async {
        for round in 0..20 {
            let (client, target, ends) = in_between().await;
            let (gone, mut stays) =
                if round % 2 == 0 { (client, target) } else { (target, client) };
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            socket2::SockRef::from(&gone).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(gone);
            assert!(is_reset(&mut stays).await, "round {round}");
            for end in ends {
                assert!(!end.await.unwrap(), "round {round}: not the end of a complete flow");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_elsewhere_unasked_is_not_followed() {
    within(async {
        let (first, mut server) = asked().await;
        let (mut client, plain) = tcp_pair().await;
        let (tell, _told) = oneshot::channel();
        server.0.queue_record(&mut server.1.seal, RecordType::Handover, &[]);
        server.0.flush().await.unwrap();
        let (end, ..) = carry(plain, first, usize::MAX, tell, asked().await).await;
        assert!(matches!(end, Err(LaneFault::Protocol(_))), "{end:?}");
        assert!(is_reset(&mut client).await);
    })
    .await;
}
