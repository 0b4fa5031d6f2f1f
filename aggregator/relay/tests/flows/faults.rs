//! A lane that breaks or lies: the flow is reset, and nothing wrong is delivered.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::lane::LaneError;
use wanbond_relay::LaneFault;

use crate::support::{Lane, Noise, is_reset, tcp_pair, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_lane_resets_both_plain_sockets() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        // In the middle of something.
        flow.client.write_all(b"half a request").await.unwrap();
        flow.target.read_exact(&mut [0; 14]).await.unwrap();
        let (mut client, mut target, fault) = flow.kill_server().await;
        assert!(matches!(fault, LaneFault::Io(_)), "{fault}");
        assert!(is_reset(&mut client).await);
        assert!(is_reset(&mut target).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_lane_is_no_end_of_the_stream() {
    within(async {
        let mut flow = Lane::new(Suite::Aes128Gcm).await.flow().await;
        // The client has ended its direction in order; the target's end is still to come.
        flow.client.shutdown().await.unwrap();
        assert_eq!(flow.target.read(&mut [0; 1]).await.unwrap(), 0);
        let (mut client, _target, _) = flow.kill_server().await;
        assert!(is_reset(&mut client).await, "a cut answer must not look like a whole one");
    })
    .await;
}

/// Copies from one connection to the other, with one bit of the byte at `flip` changed.
async fn tamper(from: &TcpStream, to: &TcpStream, mut flip: Option<usize>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        from.readable().await.unwrap();
        let n = match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        flip = match flip {
            Some(at) if at < n => {
                buffer[at] ^= 1 << (at % 8);
                None
            }
            Some(at) => Some(at - n),
            None => None,
        };
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
    // As a wire would: the end is passed on.
    let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_changed_byte_ends_the_flow_and_is_never_delivered() {
    within(async {
        let mut noise = Noise(0xabcd);
        for round in 0..12 {
            let (router, middle_router) = tcp_pair().await;
            let (middle_server, server) = tcp_pair().await;
            // Far enough behind the open, and far enough from the end that a longer length can't
            // wait for ever.
            let flip = 2_000 + noise.next() as usize % 500_000;
            let middle = tokio::spawn(async move {
                tokio::join!(
                    tamper(&middle_router, &middle_server, Some(flip)),
                    tamper(&middle_server, &middle_router, None),
                )
            });
            let suite = Suite::ALL[round % 2];
            let mut flow = Lane::over(suite, router, server).await.flow().await;
            let bytes = noise.bytes(2 << 20);
            let mut got = Vec::new();
            let (written, read) =
                tokio::join!(flow.client.write_all(&bytes), flow.target.read_to_end(&mut got));
            let error = read.expect_err("the target must see a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(got.len() < bytes.len() && bytes.starts_with(&got), "wrong bytes came through");
            // A reset is told once: to the write that was going on, else to the next read.
            let was_told = written.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
            assert!(was_told || is_reset(&mut flow.client).await);
            let ended = flow.ended().await;
            assert!(
                matches!(
                    ended.server,
                    Err(LaneFault::Protocol(LaneError::Unauthentic | LaneError::Frame(_)))
                ),
                "at {flip}: {:?}",
                ended.server
            );
            assert!(ended.router.is_err() && ended.lane.is_none());
            middle.await.unwrap();
        }
    })
    .await;
}
