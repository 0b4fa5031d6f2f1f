//! Keeping the files equal to the fleet's list while the daemon runs.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Bad, Fleet, Member};
use crate::state::{StateDir, StateError};

/// How long to wait for a change before everything is read again: a connection that has died
/// without a word is noticed then.
const ROUND: Duration = Duration::from_secs(15);
/// Between tries while etcd can't be reached, at first and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(10);

/// Follows the fleet that `state` is in, if it is in one, until `wake` closes. Each message of
/// `wake` says that this may have changed. Blocks: it wants a thread of its own.
pub fn follow(state: &StateDir, wake: &Receiver<()>) {
    let mut follower = Follower { state, published: None, told: HashSet::new(), lost: false };
    let mut retry = RETRY;
    loop {
        let pause = match follower.round() {
            Ok(Round::NoFleet) => None,
            Ok(Round::Done) => {
                retry = RETRY;
                // Changes in a burst are read together.
                Some(Duration::from_millis(10))
            }
            Err(error) => {
                follower.failed(&error);
                let pause = retry;
                retry = (retry * 2).min(RETRY_AT_MOST);
                Some(pause)
            }
        };
        let woken = match pause {
            None => wake.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(time) => wake.recv_timeout(time),
        };
        if woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        while wake.try_recv().is_ok() {}
    }
}

enum Round {
    NoFleet,
    Done,
}

struct Follower<'a> {
    state: &'a StateDir,
    /// What the others were told of this server.
    published: Option<Member>,
    /// Entries that make no sense, by name and revision: each is told of once.
    told: HashSet<(String, i64)>,
    lost: bool,
}

impl Follower<'_> {
    /// Reads the list and waits for it to change.
    fn round(&mut self) -> Result<Round, StateError> {
        let Some(settings) = self.state.fleet_settings()? else {
            self.published = None;
            return Ok(Round::NoFleet);
        };
        let fleet = Fleet::new(&settings)?;
        let mut list = self.state.mirror(&fleet)?;
        if std::mem::take(&mut self.lost) {
            tracing::info!(routers = list.routers.len(), "the fleet's list is followed again");
        }
        self.tell(&list.bad);
        loop {
            self.publish(&fleet, &list.servers)?;
            if !fleet.wait(list.revision, ROUND)? {
                // The settings may have changed meanwhile.
                return Ok(Round::Done);
            }
            list = self.state.mirror(&fleet)?;
            self.tell(&list.bad);
        }
    }

    /// Tells the others of this server, when it starts, when its key or endpoints change, and when
    /// it is missing. Not whenever what is there differs: two servers of one name would never end.
    fn publish(&mut self, fleet: &Fleet, known: &[Member]) -> Result<(), StateError> {
        let key = self.state.key()?.public();
        let Some(own) = Member::new(key, &self.state.config()?.endpoints) else { return Ok(()) };
        let missing = !known.iter().any(|member| member.name == own.name);
        let changed = self.published.as_ref() != Some(&own);
        if missing || (changed && !known.contains(&own)) {
            fleet.publish(&own)?;
        }
        self.published = Some(own);
        Ok(())
    }

    fn tell(&mut self, bad: &[Bad]) {
        for Bad { name, revision, reason } in bad {
            if self.told.insert((name.clone(), *revision)) {
                tracing::warn!(entry = %name, %reason, "the fleet's list has an entry that can't be used");
            }
        }
        self.told.retain(|(name, revision)| {
            bad.iter().any(|bad| bad.name == *name && bad.revision == *revision)
        });
    }

    fn failed(&mut self, error: &StateError) {
        if self.lost {
            tracing::debug!(%error, "still without the fleet's list");
        } else {
            tracing::warn!(%error, "without the fleet's list; the routers known stay admitted");
        }
        self.lost = true;
    }
}
