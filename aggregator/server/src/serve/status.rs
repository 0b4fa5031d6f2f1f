//! The server's status, over the local control socket.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tracing::{debug, warn};
use wanbond_control::request::{ErrorReply, MAX_REQUEST_LEN, to_line};
use wanbond_control::server::{Limits, RouterStatus, ServerFlows};
use wanbond_control::words::ErrorCode;
use wanbond_control::{Request, Response, SERVER_SOCKET, ServerStatus};
use wanbond_linux::control_socket::{bind, peer_is_trusted};

use super::Shared;
use crate::egress::EgressError;
use crate::limits::Refusal;

/// Counts what was refused or failed, by reason.
#[derive(Default)]
pub(crate) struct Refusals {
    by_reason: Mutex<BTreeMap<&'static str, u64>>,
    flows: Mutex<ServerFlows>,
}

impl Refusals {
    fn count(&self, reason: &'static str) {
        *lock(&self.by_reason).entry(reason).or_default() += 1;
    }

    /// A target was not connected.
    pub(crate) fn target(&self, error: &EgressError) {
        let mut flows = lock(&self.flows);
        match error {
            EgressError::Refused => flows.refused_total += 1,
            EgressError::Unreachable | EgressError::NoRoute => flows.unreachable_total += 1,
            EgressError::TimedOut => flows.timed_out_total += 1,
            EgressError::Denied(denial) => self.count(denial.word()),
            EgressError::NameNotFound => self.count("name_not_found"),
            EgressError::NameFailure => self.count("name_failure"),
            EgressError::TooMany => self.count("server_sockets"),
            EgressError::Other(_) => self.count("other"),
        }
    }

    /// A limit was reached.
    pub(crate) fn limit(&self, refusal: &Refusal) {
        self.count(refusal.word());
    }

    /// A flow was cut.
    pub(crate) fn reset(&self) {
        lock(&self.flows).reset_total += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts stay right whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the control socket.
pub(super) async fn serve(shared: Arc<Shared>) {
    let listener = match bind(SERVER_SOCKET) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "no control socket: `wanbond-server status` will not work");
            return std::future::pending().await;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) if matches!(peer_is_trusted(&stream), Ok(true)) => {
                tokio::spawn(converse(Arc::clone(&shared), stream));
            }
            Ok(_) => debug!("control connection of another user refused"),
            Err(error) => {
                warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(shared: Arc<Shared>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let limit = MAX_REQUEST_LEN as u64 + 1;
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let answer = match Request::from_line(&line) {
            Ok(Request::Status) => Response::ServerStatus(Box::new(status(&shared))),
            Ok(_) => Response::Error(ErrorReply::new(
                ErrorCode::BadRequest,
                "the server answers \"status\" only; the others are for the router",
            )),
            Err(error) => Response::Error(error),
        };
        let Ok(line) = to_line(&answer) else { return };
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(super) fn status(shared: &Shared) -> ServerStatus {
    let snapshot = shared.directory.snapshot();
    let sessions = shared.sessions.by_router();
    let mut routers: Vec<RouterStatus> = snapshot
        .iter()
        .map(|entry| {
            let mut status = RouterStatus { name: entry.name.clone(), ..RouterStatus::default() };
            if let Some(router) = shared.routers.seen(&entry.public_key) {
                let standing = router.standing();
                let budget = router.budget();
                status.connected = standing.connected;
                status.since_s = standing.since.map(|at| at.as_micros() as f64 / 1e6);
                status.sessions = sessions.get(&entry.public_key).copied().unwrap_or(0);
                status.lanes = budget.lanes() as u32;
                status.flows = budget.flows() as u32;
                status.flows_total = router.flows_total.load(Ordering::Relaxed) as u64;
                (status.rx_bytes, status.tx_bytes) = router.moved();
                status.addresses = standing.addresses.iter().map(ToString::to_string).collect();
            }
            let month = shared.routers.ledger().of(&entry.public_key);
            (status.month_rx_bytes, status.month_tx_bytes) = (month.received, month.sent);
            status.month_limit_bytes = shared.routers.monthly_limit(entry);
            status
        })
        .collect();
    routers.sort_by(|a, b| a.name.cmp(&b.name));
    let limits = shared.limits.limits();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: shared.clock.now().as_micros() as f64 / 1e6,
        kernel: kernel.trim().to_owned(),
        listen: shared.listen.clone(),
        flows: ServerFlows {
            active: shared.limits.flows() as u32,
            total: routers.iter().map(|router| router.flows_total).sum(),
            ..*lock(&shared.refusals.flows)
        },
        routers,
        refusals: lock(&shared.refusals.by_reason)
            .iter()
            .map(|(&reason, &count)| (reason.to_owned(), count))
            .collect(),
        limits: Limits {
            lanes_per_router: Some(limits.router.lanes),
            flows_per_router: Some(limits.router.flows),
            memory_per_router_bytes: Some(limits.router.buffers),
            unproven_connections: Some(limits.unproven),
        },
    }
}
