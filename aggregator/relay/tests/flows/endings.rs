//! Half-closes and aborts reach the other side as what they are, and the lane outlives them.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::lane::ResetReason;
use wanbond_relay::{FlowEnd, abort};

use crate::support::{Lane, Noise, is_reset, tcp_pair, within};

const ABORTED_THERE: FlowEnd = FlowEnd::AbortedThere(ResetReason::Aborted);

/// `first` ends its direction; the other still answers at length.
async fn half_close(first: &mut TcpStream, second: &mut TcpStream) {
    first.write_all(b"that is all").await.unwrap();
    first.shutdown().await.unwrap();
    let mut got = Vec::new();
    second.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"that is all");
    let answer = Noise(7).bytes(500_000);
    let mut got = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            second.write_all(&answer).await?;
            second.shutdown().await
        },
        first.read_to_end(&mut got)
    );
    sent.unwrap();
    read.unwrap();
    assert!(got == answer);
}

#[tokio::test]
async fn half_close_each_way() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        half_close(&mut flow.client, &mut flow.target).await;
        let lane = flow.ended().await.lane_after(FlowEnd::Complete, FlowEnd::Complete);
        let mut flow = lane.flow().await;
        half_close(&mut flow.target, &mut flow.client).await;
        let lane = flow.ended().await.lane_after(FlowEnd::Complete, FlowEnd::Complete);
        lane.check().await;
    })
    .await;
}

/// A socket that nobody will connect to again, to take the place of one that is aborted.
async fn take(place: &mut TcpStream) -> TcpStream {
    let (spare, _) = tcp_pair().await;
    std::mem::replace(place, spare)
}

#[tokio::test]
async fn an_abort_by_the_client_is_one_for_the_target() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        abort(take(&mut flow.client).await);
        assert!(is_reset(&mut flow.target).await);
        let lane = flow.ended().await.lane_after(FlowEnd::AbortedHere, ABORTED_THERE);
        lane.check().await;
    })
    .await;
}

#[tokio::test]
async fn an_abort_by_the_target_is_one_for_the_client() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        abort(take(&mut flow.target).await);
        assert!(is_reset(&mut flow.client).await);
        let lane = flow.ended().await.lane_after(ABORTED_THERE, FlowEnd::AbortedHere);
        lane.check().await;
    })
    .await;
}

/// One side sends as much as it can; its peer takes some of it and aborts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_abort_in_full_flow_frees_the_lane() {
    within(async {
        let mut lane = Lane::new(Suite::ChaCha20Poly1305).await;
        for (round, client_aborts) in [true, false, true, false].into_iter().enumerate() {
            let mut flow = lane.flow().await;
            let (aborting, sending) = if client_aborts {
                (&mut flow.client, &mut flow.target)
            } else {
                (&mut flow.target, &mut flow.client)
            };
            let bytes = Noise(9).bytes(1 << 20);
            let sent = async { while sending.write_all(&bytes).await.is_ok() {} };
            let taken = async {
                let mut some = vec![0; 300_000 << round];
                aborting.read_exact(&mut some).await.unwrap();
                abort(take(aborting).await);
            };
            // The sender's writes fail once the reset has come to it.
            tokio::join!(sent, taken);
            let ended = flow.ended().await;
            lane = if client_aborts {
                ended.lane_after(FlowEnd::AbortedHere, ABORTED_THERE)
            } else {
                ended.lane_after(ABORTED_THERE, FlowEnd::AbortedHere)
            };
            lane = lane.check().await;
        }
    })
    .await;
}

/// What lies in the router's kernel when a client aborts while the lane is full goes nowhere.
#[tokio::test]
async fn an_abort_while_the_lane_is_full_takes_back_what_waits() {
    within(async {
        // What is small here is quickly full.
        let (router, server) = tcp_pair().await;
        SockRef::from(&router).set_send_buffer_size(4096).unwrap();
        SockRef::from(&server).set_recv_buffer_size(4096).unwrap();
        let mut flow = Lane::over(Suite::Aes128Gcm, router, server).await.flow().await;
        SockRef::from(&flow.client).set_send_buffer_size(4096).unwrap();
        SockRef::from(&flow.target).set_recv_buffer_size(4096).unwrap();
        let bytes = Noise(11).bytes(1 << 16);
        let mut written = 0;
        // Until nothing has moved for a while: the target doesn't read.
        while let Ok(n) = timeout(Duration::from_millis(300), flow.client.write(&bytes)).await {
            written += n.unwrap();
        }
        abort(take(&mut flow.client).await);
        let mut rest = Vec::new();
        assert!(flow.target.read_to_end(&mut rest).await.is_err(), "it ends with a reset");
        let ended = flow.ended().await;
        let left = written - ended.moved[0];
        assert!(left > 96 * 1024, "{left} of {written} bytes were left");
        ended.lane_after(FlowEnd::AbortedHere, ABORTED_THERE).check().await;
    })
    .await;
}

/// The direction towards the one that aborts had ended before: only the write can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_is_an_abort() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        flow.target.shutdown().await.unwrap();
        assert_eq!(flow.client.read(&mut [0; 1]).await.unwrap(), 0);
        abort(take(&mut flow.target).await);
        let bytes = Noise(13).bytes(1 << 16);
        while flow.client.write_all(&bytes).await.is_ok() {}
        let lane = flow.ended().await.lane_after(ABORTED_THERE, FlowEnd::AbortedHere);
        lane.check().await;
    })
    .await;
}

/// Both sides abort at the same moment: whichever is heard first, the lane is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_may_abort_at_once() {
    within(async {
        let mut lane = Lane::new(Suite::Aes128Gcm).await;
        for _ in 0..50 {
            let mut flow = lane.flow().await;
            let (client, target) = (take(&mut flow.client).await, take(&mut flow.target).await);
            abort(client);
            abort(target);
            lane = flow.ended().await.lane.expect("the lane is free").check().await;
        }
    })
    .await;
}
