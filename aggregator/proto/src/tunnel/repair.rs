//! Copies of packets that are on their way, to be sent once more if they get lost.

use std::collections::VecDeque;
use std::time::Duration;

use super::wire::PacketFlags;
use crate::Time;

/// A packet older than this is not sent again: whoever waited for it has given up.
const TOO_OLD: Duration = Duration::from_millis(600);
/// A packet is sent at most so often, duplicates not counted.
const MOST_TRIES: u8 = 3;

/// Names a copy; stays safe to use when the copy is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// A packet that is on its way.
#[derive(Debug)]
pub(super) struct Copied {
    pub packet: Vec<u8>,
    pub flags: PacketFlags,
    pub slot: u16,
    pub sequence: u32,
    pub at: Time,
    /// The path it went over last.
    pub path: u8,
    tries: u8,
    /// Copies on their way.
    flying: u8,
    queued: bool,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    copied: Option<Copied>,
}

/// All copies, and which of them are to be sent again.
#[derive(Debug)]
pub(super) struct RepairStore {
    places: Vec<Place>,
    free: Vec<u32>,
    again: VecDeque<Key>,
    bytes: usize,
    limit: usize,
    /// Packets sent again.
    pub repaired: u64,
}

impl RepairStore {
    /// An empty store for at most `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            again: VecDeque::new(),
            bytes: 0,
            limit,
            repaired: 0,
        }
    }

    /// Keeps a packet that goes out now. Gives it back where there is no room.
    pub(super) fn keep(
        &mut self,
        now: Time,
        packet: Vec<u8>,
        flags: PacketFlags,
        slot: u16,
        sequence: u32,
        path: u8,
    ) -> Result<Key, Vec<u8>> {
        if self.bytes + packet.len() > self.limit {
            return Err(packet);
        }
        self.bytes += packet.len();
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        let copied = Copied {
            packet,
            flags,
            slot,
            sequence,
            at: now,
            path,
            tries: 1,
            flying: 1,
            queued: false,
        };
        place.copied = Some(copied);
        Ok(Key { index, generation: place.generation })
    }

    /// The copy, unless it is gone.
    pub(super) fn get(&self, key: Key) -> Option<&Copied> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.copied.as_ref() } else { None }
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut Copied> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.copied.as_mut() } else { None }
    }

    /// A copy went out once more, over `path`.
    pub(super) fn sent_again(&mut self, key: Key, path: u8) {
        if let Some(copied) = self.get_mut(key) {
            copied.flying = copied.flying.saturating_add(1);
            copied.path = path;
        }
    }

    /// It has arrived: gives its memory back.
    pub(super) fn acked(&mut self, key: Key) -> Option<Vec<u8>> {
        self.get(key)?;
        self.remove(key)
    }

    fn remove(&mut self, key: Key) -> Option<Vec<u8>> {
        let copied = self.places.get_mut(key.index as usize)?.copied.take()?;
        self.free.push(key.index);
        self.bytes -= copied.packet.len();
        Some(copied.packet)
    }

    /// One of its copies is lost. Gives its memory back if it is given up.
    pub(super) fn lost(&mut self, now: Time, key: Key) -> Option<Vec<u8>> {
        let copied = self.get_mut(key)?;
        copied.flying = copied.flying.saturating_sub(1);
        if copied.queued || copied.flying > 0 {
            return None;
        }
        if copied.tries >= MOST_TRIES || now.since(copied.at) > TOO_OLD {
            return self.remove(key);
        }
        copied.tries += 1;
        copied.queued = true;
        self.again.push_back(key);
        None
    }

    /// The path of one of its copies has become silent: it goes out again before it is known lost.
    pub(super) fn doubt(&mut self, now: Time, key: Key) {
        if let Some(copied) = self.get_mut(key)
            && !copied.queued
            && copied.flying <= 1
            && copied.tries < MOST_TRIES
            && now.since(copied.at) <= TOO_OLD
        {
            copied.tries += 1;
            copied.queued = true;
            self.again.push_back(key);
        }
    }

    /// The next packet to be sent again, if it is of at most `room` bytes.
    pub(super) fn next(
        &mut self,
        now: Time,
        room: usize,
        mut gone: impl FnMut(Vec<u8>),
    ) -> Option<Key> {
        loop {
            let key = *self.again.front()?;
            let Some(copied) = self.get_mut(key) else {
                self.again.pop_front();
                continue;
            };
            if now.since(copied.at) > TOO_OLD && copied.flying == 0 {
                self.again.pop_front();
                self.remove(key).map(&mut gone);
                continue;
            }
            if copied.packet.len() > room {
                return None;
            }
            copied.queued = false;
            self.again.pop_front();
            self.repaired += 1;
            return Some(key);
        }
    }

    /// Whether something is to be sent again.
    pub(super) fn has_work(&self) -> bool {
        self.again.iter().any(|&key| self.get(key).is_some())
    }

    /// The path that the next packet went over last.
    pub(super) fn next_path(&mut self) -> Option<u8> {
        while let Some(&key) = self.again.front() {
            if let Some(path) = self.get(key).map(|copied| copied.path) {
                return Some(path);
            }
            // It has arrived in the meantime.
            self.again.pop_front();
        }
        None
    }
}
