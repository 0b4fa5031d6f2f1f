//! Datagrams over a TCP connection: whole and in order, or dropped where it is full.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use wanbond_proto::lane::{FrameKind, HEAD_LEN, MAX_DATAGRAM};
use wanbond_relay::tcp::TcpEnd;
use wanbond_relay::{BufferPool, LaneStream};

use super::within;

async fn connection() -> (Arc<TcpStream>, LaneStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (Arc::new(near), LaneStream::new(far, BufferPool::new(1 << 20)))
}

fn datagram(number: u32) -> Vec<u8> {
    let mut datagram = vec![number as u8; 40 + number as usize % 1400];
    datagram[..4].copy_from_slice(&number.to_be_bytes());
    datagram
}

#[tokio::test]
async fn datagrams_come_whole_and_in_order_or_not_at_all() {
    within(async {
        let (near, mut far) = connection().await;
        let end = TcpEnd::start(near);
        // More than connection and queue hold, while nobody reads.
        let sent: Vec<u32> =
            (0..20_000).filter(|&number| end.send(&datagram(number), None)).collect();
        assert!(sent.len() > 50 && sent.len() < 20_000, "{} of 20000 taken", sent.len());
        for &number in &sent {
            let frame = far.frame().await.unwrap();
            assert_eq!(frame.kind, FrameKind::Datagram);
            assert_eq!(far.frame_bytes(&frame)[HEAD_LEN..], datagram(number), "{number}");
            far.consume(&frame);
        }
        // What waited is gone: there is room again.
        assert!(end.send(&datagram(1), None));
        let frame = far.frame().await.unwrap();
        assert_eq!(far.frame_bytes(&frame)[HEAD_LEN..], datagram(1));
    })
    .await;
}

#[tokio::test]
async fn segments_become_datagrams_and_oversized_ones_are_refused() {
    within(async {
        let (near, mut far) = connection().await;
        let end = TcpEnd::start(near);
        assert!(!end.send(&vec![0; MAX_DATAGRAM + 1], None));
        let all: Vec<u8> = [datagram(60), datagram(60), datagram(7)].concat();
        assert!(end.send(&all, Some(datagram(60).len())));
        for number in [60, 60, 7] {
            let frame = far.frame().await.unwrap();
            assert_eq!(far.frame_bytes(&frame)[HEAD_LEN..], datagram(number));
            far.consume(&frame);
        }
    })
    .await;
}

#[tokio::test]
async fn the_connection_ends_with_its_last_user() {
    within(async {
        let (near, mut far) = connection().await;
        let end = TcpEnd::start(near);
        drop(end);
        assert!(tokio::time::timeout(Duration::from_secs(20), far.frame()).await.unwrap().is_err());
    })
    .await;
}
