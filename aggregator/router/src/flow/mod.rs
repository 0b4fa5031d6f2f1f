//! One redirected TCP connection: from the client's accepted socket to its end.
//!
//! ```text
//! accept ─▶ take a lane ─▶ Open ─▶ answer ─▶ pump ─▶ give the lane back
//!              ▲            │ lane lost, silent, or "not taken"
//!              └────────────┘ again, with what the client has sent so far
//! ```
//!
//! A server says within milliseconds that it has an open, so a lane that is silent for longer than a round
//! trip is most likely on a WAN that has just died, and the flow is asked for again over the tunnel.
//! Whatever the server has of it then goes on there. A flow that runs on a lane may be handed over to the
//! tunnel, too: [`handover`].

mod handover;
mod haste;
mod listener;
mod open;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, trace};
use wanbond_control::words::MptcpState;
use wanbond_proto::lane::{FlowKeys, ResetReason};
use wanbond_relay::{FlowEnd, LaneFault, Pump, Side, abort, drain};

use crate::bypass::sniff::{self, Way};
use crate::lanes::BusyLane;
use crate::shared::{Shared, count};

use handover::Wish;
pub(crate) use haste::Haste;
pub(crate) use listener::serve;
use open::{NotOpened, Opened, open};

/// After an abort, how much of the lane is read on until the server's last word.
const DRAIN_BYTES: usize = 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Carries one client connection to its target.
async fn carry(shared: Arc<Shared>, client: TcpStream, target: SocketAddr) {
    let client = match shared.sniffer.way(&client, target).await {
        Way::Usual => client,
        Way::Nowhere => return abort(client),
        Way::From(sources) => {
            let Some(source) = sources.first() else { return abort(client) };
            if let Err((client, error)) = sniff::carry(client, *source, target).await {
                debug!(%target, %source, %error, "connection around the bond ended");
                abort(client);
            }
            return;
        }
    };
    let _active = Active::new(&shared);
    let opened = match open(&shared, client, target).await {
        Ok(opened) => opened,
        Err((client, why)) => {
            tell(&shared, target, &why);
            // Nothing was accepted of what the client sent: to it, the connection was reset.
            if let Some(client) = client {
                abort(client);
            }
            return;
        }
    };
    let Opened { client, mut lane, mut keys, mut asked, sending_ended } = opened;
    count(if lane.stream.carrier().is_stream() {
        &shared.counters.flows_stream
    } else if lane.mptcp == MptcpState::Working {
        &shared.counters.flows_mptcp
    } else {
        &shared.counters.flows_tcp
    });
    // Streams do not end by themselves when another server is used; lanes are ended.
    let mut servers = shared.servers.subscribe();
    let mut wish = Wish::new(&shared, lane.stream.carrier().is_stream());
    let mut asking = None;
    let mut handed_over = false;
    let mut pump = Pump::new(Side::Router, client, &mut lane.stream, &mut keys, &shared.traffic);
    if sending_ended {
        pump = pump.sending_ended();
    }
    let gone = || Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
    let ended = loop {
        let busy = asking.is_some() || pump.is_leaving();
        let after = if busy { usize::MAX } else { wish.after() };
        tokio::select! {
            ended = pump.run_for(after) => match ended {
                Ok(Some(end)) => break Ok(end),
                Err(fault) => break Err(fault),
                Ok(None) => {
                    let ask = handover::ask(Arc::clone(&shared), asked, target, wish.ask());
                    pump.expect_handover();
                    asking = Some(Box::pin(ask));
                }
            },
            stream = async { asking.as_mut().unwrap().await }, if asking.is_some() => {
                asking = None;
                match stream {
                    Some((stream, keys, elsewhere)) => {
                        count(&shared.counters.handed_over);
                        pump.hand_over(stream, keys);
                        wish.done();
                        asked = elsewhere;
                        handed_over = true;
                    }
                    None if pump.is_handed_over() => break gone(),
                    None => pump.stay(),
                }
            }
            () = wish.changed() => {}
            // What is lost with them, the client sees as a reset.
            _ = servers.changed(), if wish.on_stream() => break gone(),
        }
    };
    drop(pump);
    match ended {
        // It is not what it was taken for: what is told of it is of the first.
        Ok(FlowEnd::Complete) if handed_over => lane.into_stream().finish(),
        Ok(FlowEnd::Complete) => lane.give_back(),
        Ok(end) => {
            count(&shared.counters.reset);
            trace!(%target, ?end, "flow aborted");
            recover(lane, keys).await;
        }
        Err(fault) => {
            count(&shared.counters.reset);
            debug!(%target, %fault, "flow lost with its lane");
        }
    }
}

/// Brings a lane back into order after its flow was aborted.
async fn recover(mut lane: BusyLane, mut keys: FlowKeys) {
    let drained = timeout(DRAIN_TIME, drain(&mut lane.stream, &mut keys, DRAIN_BYTES)).await;
    if let Ok(Ok(true)) = drained {
        lane.give_back();
    }
}

fn tell(shared: &Shared, target: SocketAddr, why: &NotOpened) {
    debug!(%target, %why, "connection not made");
    let counter = match why {
        NotOpened::Target(ResetReason::Refused) => &shared.counters.refused,
        NotOpened::Target(ResetReason::Unreachable) => &shared.counters.unreachable,
        NotOpened::Target(ResetReason::TimedOut) => &shared.counters.timed_out,
        _ => &shared.counters.reset,
    };
    count(counter);
}

/// Counts a flow as active while it lives.
struct Active<'a>(&'a Shared);

impl<'a> Active<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.counters.flows_active.fetch_add(1, Ordering::Relaxed);
        count(&shared.counters.flows_total);
        shared.flow_started.notify_one();
        Self(shared)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.counters.flows_active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A fault that says nothing about the flow: it may be opened again on another lane.
const fn is_lane_only(fault: &LaneFault) -> bool {
    matches!(fault, LaneFault::Io(_))
}
