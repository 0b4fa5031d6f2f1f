//! A young flow goes on on another lane, when nothing of it has reached the router on the first: every
//! byte arrives once, whatever had been sent, taken and passed on by then.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::lane::{FlowKeys, Open, RecordType, Target};
use wanbond_relay::{Again, FlowEnd, LaneFault, LaneStream, Pump, Side, Traffic};

use crate::support::{Lane, Noise, accept_open, tcp_pair, within};

type NewLane = (LaneStream, FlowKeys);

/// The router's end of a lane on which it has asked for the flow, and the server's.
async fn ask(early: &[u8], ended: bool) -> (NewLane, NewLane) {
    let mut lane = Lane::new(Suite::Aes128Gcm).await;
    let id = lane.sessions.0.next_flow_id();
    let open = Open {
        instead_of: Vec::new(),
        handover: false,
        target: Target::Name("target.example".into(), 80),
    };
    let mut keys = lane.router.queue_open(&lane.sessions.0, id, &open);
    for piece in early.chunks(5000) {
        lane.router.queue_record(&mut keys.seal, RecordType::Data, piece);
    }
    if ended {
        lane.router.queue_record(&mut keys.seal, RecordType::Fin, &[]);
    }
    lane.router.flush().await.unwrap();
    let server_keys = accept_open(&mut lane.server, &lane.sessions.1, RecordType::Open).await;
    ((lane.router, keys), (lane.server, server_keys))
}

/// The server's part.
async fn serve(
    target: TcpStream,
    (mut lane, mut keys): NewLane,
    mut successors: Receiver<NewLane>,
) -> Result<FlowEnd, LaneFault> {
    let traffic = Traffic::default();
    lane.queue_record(&mut keys.seal, RecordType::Connected, &[]);
    let pump = Pump::new(Side::Server, target, &mut lane, &mut keys, &traffic);
    let mut pump = pump.movable(0, Again::default());
    loop {
        let next = tokio::select! {
            Some(next) = successors.recv() => next,
            end = pump.run() => match end {
                Err(LaneFault::Io(_)) if pump.is_movable() => successors.recv().await.unwrap(),
                end => return end,
            }
        };
        assert!(pump.is_movable());
        pump.move_to(next.0, next.1);
    }
}

async fn some_time(noise: &mut Noise) {
    for _ in 0..noise.next() % 40 {
        tokio::task::yield_now().await;
    }
    if noise.next().is_multiple_of(4) {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_arrives_once() {
    within(async {
        for seed in 1..50u64 {
            a_flow_moves(Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))).await;
        }
    })
    .await;
}

async fn a_flow_moves(mut noise: Noise) {
    let up = noise.bytes((noise.0 % 90_000) as usize);
    let size = noise.next() % 200_000;
    let down = noise.bytes(size as usize);
    // What the client has said by each request, and the target by the last.
    let mut said = noise.next() as usize % (up.len().min(60_000) + 1);
    let answered = noise.next() as usize % (down.len().min(150_000) + 1);
    let answer_ended = answered == down.len() && noise.next().is_multiple_of(2);

    let (mut target, server_plain) = tcp_pair().await;
    let (sender, successors) = channel(1);
    let ended = said == up.len() && noise.next().is_multiple_of(2);
    let (mut asked, served) = ask(&up[..said], ended).await;
    let server = tokio::spawn(serve(server_plain, served, successors));
    target.write_all(&down[..answered]).await.unwrap();
    if answer_ended {
        target.shutdown().await.unwrap();
    }
    let mut ended = ended;
    for _ in 0..1 + noise.next() % 3 {
        some_time(&mut noise).await;
        let first = asked;
        if noise.next().is_multiple_of(2) {
            // It goes down before the server knows of the next.
            drop(first);
            some_time(&mut noise).await;
        }
        said += noise.next() as usize % (up.len().min(64_000).saturating_sub(said) + 1);
        ended |= said == up.len() && noise.next().is_multiple_of(2);
        let (next, served) = ask(&up[..said], ended).await;
        asked = next;
        sender.send(served).await.unwrap_or_else(|_| panic!("the server has ended"));
    }

    let (mut lane, mut keys) = asked;
    let frame = lane.frame().await.unwrap();
    let record = frame.open(&mut keys.open, lane.frame_bytes(&frame)).unwrap();
    assert_eq!(record.kind, RecordType::Connected);
    lane.consume(&frame);
    let (mut client, router_plain) = tcp_pair().await;
    let traffic = Traffic::default();
    let mut pump = Pump::new(Side::Router, router_plain, &mut lane, &mut keys, &traffic);
    if ended {
        pump = pump.sending_ended();
    }
    let (mut client_in, mut client_out) = client.split();
    let (mut target_in, mut target_out) = target.split();
    let (mut at_client, mut at_target) = (Vec::new(), Vec::new());
    let (done, ..) = tokio::join!(
        pump.run(),
        async {
            client_out.write_all(&up[said..]).await.unwrap();
            // Refused where the router's pump has not read since the direction ended.
            let _ = client_out.shutdown().await;
        },
        async {
            if !answer_ended {
                target_out.write_all(&down[answered..]).await.unwrap();
                target_out.shutdown().await.unwrap();
            }
        },
        async { client_in.read_to_end(&mut at_client).await.unwrap() },
        async { target_in.read_to_end(&mut at_target).await.unwrap() },
    );
    assert_eq!(done.unwrap(), FlowEnd::Complete);
    assert_eq!(server.await.unwrap().unwrap(), FlowEnd::Complete);
    assert!(at_target == up, "at the target {} of {} bytes", at_target.len(), up.len());
    assert!(at_client == down, "at the client {} of {} bytes", at_client.len(), down.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_is_heard_of_stays() {
    within(async {
        let (mut target, plain) = tcp_pair().await;
        let ((mut router, mut router_keys), (mut lane, mut keys)) = ask(&[], false).await;
        let traffic = Traffic::default();
        let pump = Pump::new(Side::Server, plain, &mut lane, &mut keys, &traffic);
        let mut pump = pump.movable(0, Again::default());
        let (mut client, plain) = tcp_pair().await;
        let heard = Traffic::default();
        let mut at_router = Pump::new(Side::Router, plain, &mut router, &mut router_keys, &heard);
        target.write_all(&[7; 15_000]).await.unwrap();
        let mut got = vec![0; 15_000];
        tokio::select! {
            end = pump.run() => panic!("it has ended: {end:?}"),
            end = at_router.run() => panic!("it has ended: {end:?}"),
            read = client.read_exact(&mut got) => drop(read.unwrap()),
        }
        assert!(pump.is_movable(), "the router has said nothing of so little");
        tokio::select! {
            end = pump.run() => panic!("it has ended: {end:?}"),
            end = at_router.run() => panic!("it has ended: {end:?}"),
            () = async {
                target.write_all(&[7; 200_000]).await.unwrap();
                client.read_exact(&mut vec![0; 200_000]).await.unwrap();
            } => {}
        }
        assert!(!pump.is_movable());
    })
    .await;
}
