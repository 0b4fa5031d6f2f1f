//! Keeps the addresses of the rules' domains coming.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};
use wanbond_linux::owned::Journal;

use super::Rule;
use super::dnsmasq::{self, Settings, Unusable};

/// dnsmasq may be started, or installed, later.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Where procd starts it anew it is away for a moment.
const RESTART: Duration = Duration::from_secs(1);
/// So often it is waited for.
const RESTARTS: u32 = 5;

/// What there is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// All rules.
    pub(crate) rules: Arc<[Rule]>,
    /// What the configuration says of dnsmasq.
    pub(crate) settings: Settings,
    /// Counts tables that were made anew, with empty sets.
    pub(crate) tables: u32,
}

/// How it is done: what dnsmasq can't, or nothing before it was tried.
pub(crate) type Found = Option<Result<(), Unusable>>;

/// Follows what is wanted, as long as it is polled.
pub(crate) async fn keep(
    mut wanted: watch::Receiver<Wanted>,
    found: watch::Sender<Found>,
    journal: Journal,
) {
    let (mut tables, mut away) = (0, 0);
    // Until it is known what is wanted, what is there may be just that.
    if wanted.changed().await.is_err() {
        return;
    }
    loop {
        let now = wanted.borrow_and_update().clone();
        let named = now.rules.iter().any(|rule| !rule.domains.is_empty());
        // Without a table there are no sets yet, nor rules that need them.
        let result = if now.tables > 0 || !named {
            let fresh = tables != now.tables;
            let done = dnsmasq::follow(&now.rules, &now.settings, &journal, fresh).await;
            if done.is_ok() {
                tables = now.tables;
            }
            Some(done)
        } else {
            None
        };
        let gone = matches!(result, Some(Err(Unusable::Absent | Unusable::NoFolder)));
        if gone && away < RESTARTS && matches!(*found.borrow(), Some(Ok(()))) {
            away += 1;
            sleep(RESTART).await;
            continue;
        }
        away = 0;
        let bad = matches!(result, Some(Err(_)));
        let was = found.send_replace(result.clone());
        if was != result && named {
            match &result {
                Some(Err(Unusable::Failed(problem))) => warn!(problem, "domains of bypasses"),
                Some(Err(why)) => info!(%why, "domains of bypasses are known by connections only"),
                Some(Ok(())) | None => {}
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = sleep(LOOK_AGAIN), if bad => {}
        }
    }
}
