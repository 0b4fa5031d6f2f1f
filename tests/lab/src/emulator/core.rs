//! What the emulator's thread runs: devices in, pipes, devices out.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::driver::{Direction, EmulatorError, LinkReport};
use super::{Filter, Lateness, Pipe, Shape, Time};
use crate::tun::Tun;

/// Something to do on the thread between two packets.
pub(super) type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// How many packets are read from one device before the others and the due ones get their turn.
const BATCH: usize = 64;
/// The largest IP packet.
const MAX_PACKET: usize = 65_535;
/// Spare packet buffers kept for reuse.
const SPARE: usize = 4096;

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

#[derive(Debug)]
pub(super) struct Core {
    start: Instant,
    epoll: Epoll,
    timer: TimerFd,
    armed: Option<Time>,
    wake: Arc<EventFd>,
    pub(super) links: Vec<Link>,
    spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

pub(super) struct Link {
    name: String,
    pub(super) filter: Filter,
    pub(super) down: Pipe<Vec<u8>>,
    pub(super) up: Pipe<Vec<u8>>,
    router: Option<Tun>,
    isp: Option<Tun>,
}

impl Link {
    /// One without devices.
    pub(super) fn new(name: &str, (down, up): (Shape, Shape), seed: u64) -> Self {
        Self {
            name: name.into(),
            filter: Filter::default(),
            down: Pipe::new(down, seed.wrapping_mul(2)),
            up: Pipe::new(up, seed.wrapping_mul(2).wrapping_add(1)),
            router: None,
            isp: None,
        }
    }

    pub(super) const fn pipe(&mut self, direction: Direction) -> &mut Pipe<Vec<u8>> {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }

    /// The device that packets of this direction come from.
    const fn source(&mut self, direction: Direction) -> &mut Option<Tun> {
        match direction {
            Direction::Down => &mut self.isp,
            Direction::Up => &mut self.router,
        }
    }

    pub(super) fn report(&self) -> LinkReport {
        let mut lateness = Lateness::default();
        lateness.merge(self.down.lateness());
        lateness.merge(self.up.lateness());
        LinkReport {
            name: self.name.clone(),
            cut: self.down.is_cut(),
            down: *self.down.counters(),
            up: *self.up.counters(),
            lateness: lateness.report(),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}

const BOTH: [Direction; 2] = [Direction::Down, Direction::Up];

impl Core {
    pub(super) fn new(wake: Arc<EventFd>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Self {
            start: Instant::now(),
            epoll,
            timer,
            armed: None,
            wake,
            links: Vec::new(),
            spare: Vec::new(),
            scratch: vec![0; MAX_PACKET],
        })
    }

    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    pub(super) fn run(&mut self, inbox: &Receiver<Job>) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            // Any error but an interruption would be a bug of ours; a pause keeps it harmless.
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    0
                }
            };
            for event in &events[..ready] {
                match event.data() {
                    WAKE => {
                        let _ = self.wake.read();
                        loop {
                            match inbox.try_recv() {
                                Ok(job) => job(self),
                                Err(TryRecvError::Empty) => break,
                                Err(TryRecvError::Disconnected) => return,
                            }
                        }
                    }
                    // A timer that is not read stays ready for ever, if it is not set anew.
                    TIMER => {
                        let _ = self.timer.wait();
                        self.armed = None;
                    }
                    token => self.read(token),
                }
            }
            self.deliver();
            self.arm();
        }
    }

    /// Takes a batch of packets from the device behind `token` into its pipe.
    fn read(&mut self, token: u64) {
        let Ok(token) = usize::try_from(token) else { return };
        let (index, direction) = (token / 2, BOTH[token % 2]);
        let Some(link) = self.links.get_mut(index) else { return };
        for _ in 0..BATCH {
            let Some(tun) = link.source(direction) else { return };
            let len = match tun.recv(&mut self.scratch) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The device was removed under us.
                Err(_) => return self.detach(index, direction),
            };
            let now = Time::ZERO + self.start.elapsed();
            let bytes = &mut self.scratch[..len];
            let size = u32::try_from(len).unwrap_or(u32::MAX);
            if !link.filter.pass(bytes) {
                link.pipe(direction).count_filtered(size);
                continue;
            }
            let mut packet = self.spare.pop().unwrap_or_default();
            packet.clear();
            packet.extend_from_slice(bytes);
            link.pipe(direction).offer(now, size, packet);
        }
    }

    /// Hands over everything that is due.
    fn deliver(&mut self) {
        for link in &mut self.links {
            for direction in BOTH {
                while let Some(delivery) =
                    link.pipe(direction).poll(Time::ZERO + self.start.elapsed())
                {
                    let target = match direction {
                        Direction::Down => &link.router,
                        Direction::Up => &link.isp,
                    };
                    // A device that is down or gone swallows packets, as a real one does.
                    if let Some(tun) = target {
                        let _ = tun.send(&delivery.packet);
                    }
                    if self.spare.len() < SPARE {
                        self.spare.push(delivery.packet);
                    }
                }
            }
        }
    }

    /// Sets the timer to the next packet's time.
    fn arm(&mut self) {
        let next =
            self.links.iter().flat_map(|l| [l.down.next_due(), l.up.next_due()]).flatten().min();
        if next == self.armed {
            return;
        }
        self.armed = next;
        let _ = match next {
            // Zero would disarm it.
            Some(due) => {
                let wait = due.since(self.now()).max(Duration::from_nanos(1));
                let wait = Expiration::OneShot(TimeSpec::from_duration(wait));
                self.timer.set(wait, TimerSetTimeFlags::empty())
            }
            None => self.timer.unset(),
        };
    }

    pub(super) fn attach(
        &mut self,
        index: usize,
        direction: Direction,
        mut tun: Tun,
    ) -> Result<(), EmulatorError> {
        self.detach(index, direction);
        tun.set_nonblocking(true)?;
        let token = index as u64 * 2 + u64::from(direction == Direction::Up);
        self.epoll
            .add(&tun, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(io::Error::from)?;
        *self.links[index].source(direction) = Some(tun);
        Ok(())
    }

    pub(super) fn detach(&mut self, index: usize, direction: Direction) {
        if let Some(tun) = self.links[index].source(direction).take() {
            let _ = self.epoll.delete(&tun);
        }
    }
}
