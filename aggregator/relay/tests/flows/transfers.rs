//! Bytes arrive as they were sent, and wait where they should.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::lane::MAX_FRAME;
use wanbond_relay::FlowEnd;

use crate::support::{Lane, Noise, within};

const MEGABYTE: usize = 1 << 20;

/// Writes all in pieces of any size, then ends the direction.
async fn send(mut to: impl AsyncWrite + Unpin, bytes: &[u8], mut noise: Noise) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = if noise.next().is_multiple_of(4) { 200_000 } else { 3_000 };
        let (piece, after) = rest.split_at(rest.len().min(1 + noise.next() as usize % most));
        to.write_all(piece).await.unwrap();
        rest = after;
        if noise.next().is_multiple_of(16) {
            tokio::task::yield_now().await;
        }
    }
    to.shutdown().await.unwrap();
}

async fn receive(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut got = Vec::new();
    from.read_to_end(&mut got).await.unwrap();
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bulk_both_ways_at_once_is_byte_exact() {
    within(async {
        for suite in Suite::ALL {
            let mut flow = Lane::new(suite).await.flow().await;
            let up = Noise(0xfeed).bytes(8 * MEGABYTE + 1);
            let down = Noise(0xbeef).bytes(6 * MEGABYTE + 77);
            let (client_in, client_out) = flow.client.split();
            let (target_in, target_out) = flow.target.split();
            let ((), (), at_target, at_client) = tokio::join!(
                send(client_out, &up, Noise(3)),
                send(target_out, &down, Noise(5)),
                receive(target_in),
                receive(client_in),
            );
            assert!(at_target == up && at_client == down, "bytes differ");
            let ended = flow.ended().await;
            assert_eq!(ended.moved, [up.len(), down.len()]);
            let lane = ended.lane_after(FlowEnd::Complete, FlowEnd::Complete);
            assert_eq!(lane.pools.each_ref().map(|pool| pool.lent()), [0, 0]);
            lane.check().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lane_carries_flow_after_flow() {
    within(async {
        let mut lane = Lane::new(Suite::ChaCha20Poly1305).await;
        for _ in 0..50 {
            lane = lane.check().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_server_may_speak_first() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        flow.target.write_all(b"SSH-2.0-target\r\n").await.unwrap();
        let mut banner = [0; 16];
        flow.client.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"SSH-2.0-target\r\n");
        flow.client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
        flow.target.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"SSH-2.0-client\r\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_reader_holds_the_writer_back() {
    const TOTAL: usize = 48 * MEGABYTE;
    /// What the kernel may hold in three connections: 4 MB to be sent (`tcp_wmem`) and 2 MB received
    /// in each, and one piece that is being written.
    const ON_THE_WAY: usize = 20 * MEGABYTE;
    within(async {
        for towards_target in [true, false] {
            let flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
            let (mut writer, mut reader) = if towards_target {
                (flow.client, flow.target)
            } else {
                (flow.target, flow.client)
            };
            let sent = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&sent);
            let writing = tokio::spawn(async move {
                let mut noise = Noise(11);
                while count.load(Ordering::Relaxed) < TOTAL {
                    writer.write_all(&noise.bytes(MEGABYTE)).await.unwrap();
                    count.fetch_add(MEGABYTE, Ordering::Relaxed);
                }
                // The other direction stays open until all was read.
                writer.shutdown().await.unwrap();
                writer
            });
            let mut noise = Noise(11);
            let (mut expected, mut got, mut most_lent) = (Vec::new(), 0, 0);
            let mut piece = vec![0; MEGABYTE];
            loop {
                // Slow at first; the rest need not take long.
                let wish = if got < 4 * MEGABYTE { 1024 } else { MEGABYTE };
                let n = reader.read(&mut piece[..wish]).await.unwrap();
                if n == 0 {
                    break;
                }
                got += n;
                for byte in &piece[..n] {
                    if expected.is_empty() {
                        expected = noise.bytes(MEGABYTE);
                        expected.reverse();
                    }
                    assert_eq!(Some(*byte), expected.pop());
                }
                let ahead = sent.load(Ordering::Relaxed).saturating_sub(got);
                assert!(ahead <= ON_THE_WAY, "the writer is {ahead} bytes ahead");
                let lent = flow.pools.each_ref().map(|pool| pool.lent());
                most_lent = lent.into_iter().fold(most_lent, usize::max);
            }
            assert_eq!(got, TOTAL);
            // A flow's end holds a buffer to read into and one to write from, each doubled for
            // the moment in which it grows.
            assert!(most_lent <= 4 * MAX_FRAME, "{most_lent} bytes lent");
            drop((writing.await.unwrap(), reader));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_flow_holds_no_buffer() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        flow.holds_nothing().await;
        for round in 0..3 {
            let bytes = Noise(round + 1).bytes(300_000);
            let mut got = vec![0; bytes.len()];
            let (sent, read) =
                tokio::join!(flow.client.write_all(&bytes), flow.target.read_exact(&mut got));
            sent.unwrap();
            read.unwrap();
            assert!(got == bytes);
            flow.target.write_all(b"thanks").await.unwrap();
            flow.client.read_exact(&mut got[..6]).await.unwrap();
            flow.holds_nothing().await;
        }
    })
    .await;
}
