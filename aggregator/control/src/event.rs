//! What happened: numbered events and the bounded log that keeps the latest of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::words::{EventKind, Level};

/// Something that happened to a WAN, a server or the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Its number, counting from 1 at the daemon's start. [`EventLog::push`] gives it.
    pub seq: u64,
    /// When, in seconds after the daemon's start.
    pub at_s: f64,
    /// What it is about.
    pub kind: EventKind,
    /// The WAN it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wan: Option<String>,
    /// The server it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// One sentence for people.
    pub message: String,
    /// How grave it is.
    pub level: Level,
}

impl Event {
    /// An event of the daemon itself; `at_s` in seconds after its start.
    #[must_use]
    pub fn new(at_s: f64, kind: EventKind, message: impl Into<String>) -> Self {
        Self { at_s, kind, message: message.into(), ..Self::default() }
    }

    /// The same event, about this WAN.
    #[must_use]
    pub fn of_wan(mut self, name: impl Into<String>) -> Self {
        self.wan = Some(name.into());
        self
    }

    /// The same event, about this server.
    #[must_use]
    pub fn of_server(mut self, name: impl Into<String>) -> Self {
        self.server = Some(name.into());
        self
    }

    /// The same event, to be looked at by a person.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }
}

/// The latest events, oldest first; the oldest is forgotten when it is full.
#[derive(Debug, Clone)]
pub struct EventLog {
    events: VecDeque<Event>,
    capacity: usize,
    last_seq: u64,
}

impl EventLog {
    /// What the daemons keep: a few days of an ordinary line, below 100 kB.
    pub const DEFAULT_CAPACITY: usize = 256;

    /// An empty log for at most `capacity` events, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity: capacity.max(1), last_seq: 0 }
    }

    /// Appends `event` under the next number, which is returned.
    pub fn push(&mut self, event: Event) -> u64 {
        self.last_seq += 1;
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Event { seq: self.last_seq, ..event });
        self.last_seq
    }

    /// The events after number `seq` that are still kept, oldest first; all of them for 0.
    ///
    /// If the first one's number is not `seq + 1`, the ones between have been forgotten.
    pub fn since(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Event> {
        let first = self.events.partition_point(|event| event.seq <= seq);
        self.events.range(first..)
    }

    /// The latest `count` events, oldest first.
    pub fn latest(&self, count: usize) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.range(self.events.len().saturating_sub(count)..)
    }

    /// The number of the latest event; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_numbers_go_on() {
        let mut log = EventLog::new(3);
        assert_eq!(log.last_seq(), 0);
        assert_eq!(log.since(0).count(), 0);
        for n in 1..=5u32 {
            let event = Event::new(f64::from(n), EventKind::WanState, "up").of_wan("fibre");
            assert_eq!(log.push(event), u64::from(n));
        }
        let seqs = |since| log.since(since).map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!(seqs(0), [3, 4, 5]);
        assert_eq!(seqs(4), [5]);
        assert_eq!(seqs(5), [0u64; 0]);
        assert_eq!(seqs(u64::MAX), [0u64; 0]);
        assert_eq!(log.latest(2).map(|event| event.seq).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(log.latest(9).count(), 3);
    }

    #[test]
    fn a_log_for_nothing_still_keeps_one() {
        let mut log = EventLog::new(0);
        log.push(Event::default());
        log.push(Event::default());
        assert_eq!(log.since(0).count(), 1);
    }

    #[test]
    fn json_names_only_what_it_is_about() {
        let event = Event::new(1.0, EventKind::ServerState, "connected").of_server("vps");
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"seq":0,"at_s":1.0,"kind":"server_state","server":"vps","message":"connected","level":"info"}"#
        );
    }
}
