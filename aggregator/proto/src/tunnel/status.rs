//! Telling the peer which paths are not to be used, until it has heard.

use super::path::{Item, Path, Standing};
use super::transmit::Draft;
use super::{Tunnel, wire};

/// The paths' standing, until the peer knows it.
#[derive(Debug, Default)]
pub(super) struct Status {
    serial: u16,
    known: bool,
    on_its_way: bool,
    ever: bool,
}

impl Status {
    /// Something has changed that the peer should know.
    pub(super) fn change(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        (self.known, self.on_its_way, self.ever) = (false, false, true);
    }

    pub(super) fn acked(&mut self, serial: u16) {
        self.known |= serial == self.serial;
    }

    pub(super) fn lost(&mut self, serial: u16) {
        if serial == self.serial {
            self.on_its_way = false;
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.ever && !self.known && !self.on_its_way
    }
}

impl Tunnel {
    /// The path that the status goes over: what the peer thinks of it does not matter, as that may
    /// be what the status changes.
    pub(super) fn tells_status(&self) -> Option<usize> {
        self.paths.iter().position(Path::is_usable)
    }

    pub(super) fn write_status(&mut self, index: usize, draft: &mut Draft, out: &mut Vec<u8>) {
        // Over any path while none answers.
        let here = self.tells_status().is_none_or(|teller| teller == index);
        if !self.status.is_due() || !here || draft.room(out) < wire::STATUS_LEN {
            return;
        }
        let bits = |wanted: fn(&Path) -> bool| {
            let number = |path: &Path| 1u16 << path.id.number();
            self.paths.iter().filter(|path| wanted(path)).map(number).fold(0, |a, b| a | b)
        };
        let unusable = bits(|path| path.standing == Standing::Off || path.is_known_down());
        let spare = bits(|path| path.standing == Standing::Spare);
        out.push(wire::STATUS);
        for word in [self.status.serial, unusable, spare] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        draft.wants_ack = true;
        self.status.on_its_way = true;
        self.items.push(Item::Status(self.status.serial));
    }
}
