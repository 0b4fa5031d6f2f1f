//! Datagrams arrive as they were sent, however many travel as one.

use wanbond_relay::udp::Inbox;

use super::{Offloads, socket, within};

const SIZE: usize = 1000;
/// The last is shorter.
const LAST: usize = 300;
const COUNT: usize = 40;

/// Every byte tells which datagram it belongs to.
fn datagrams() -> Vec<u8> {
    (0..(COUNT - 1) * SIZE + LAST).map(|at| (at / SIZE) as u8).collect()
}

#[tokio::test]
async fn datagrams_keep_their_bounds() {
    for offloads in Offloads::ALL {
        let (sender, _) = socket(Offloads { joining: true, ..offloads }).await;
        let (receiver, address) = socket(Offloads { segmentation: true, ..offloads }).await;
        let contents = datagrams();
        for piece in contents.chunks(SIZE * sender.most_segments().min(COUNT)) {
            let segment = (piece.len() > SIZE).then_some(SIZE);
            assert!(sender.send(address, None, piece, segment));
        }
        check(&receiver).await;
    }
}

#[tokio::test]
async fn what_the_kernel_refuses_to_cut_goes_one_by_one() {
    let (sender, _) = socket(Offloads { segmentation: false, joining: true }).await;
    let (receiver, address) = socket(Offloads { segmentation: true, joining: true }).await;
    // As if whoever sends had not asked again how many it may give at once.
    assert!(sender.send(address, None, &datagrams(), Some(SIZE)));
    check(&receiver).await;
}

/// All came, in order and each whole. Loopback loses none of so few.
async fn check(receiver: &wanbond_relay::udp::UdpEnd) {
    let mut inbox = Inbox::default();
    let mut seen = 0;
    while seen < COUNT {
        within(receiver.receive(&mut inbox)).await.unwrap();
        for mut arrival in inbox.arrivals() {
            for datagram in arrival.datagrams() {
                assert_eq!(datagram.len(), if seen + 1 == COUNT { LAST } else { SIZE });
                assert!(datagram.iter().all(|&byte| usize::from(byte) == seen), "{seen}");
                seen += 1;
            }
        }
    }
}
