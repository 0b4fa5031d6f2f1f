//! The thread that moves packets between pairs of TUN devices as their pipes say.
//!
//! One thread per lab serves all its links. It runs at real-time priority where it may, because a
//! stall of the emulator looks like a stall of the network; how punctual it was is part of every
//! report. It sleeps in `epoll` on the devices and on a high-resolution timer set to the next
//! packet's time, so an idle lab costs nothing.
//!
//! Only this thread touches the pipes: others send it closures, so nothing here takes a lock and
//! a stalled test never holds up a packet.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};
use tappers::Tun;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::{Counters, Filter, Lateness, LatenessReport, Pipe, Shape, Time};

/// The emulator's thread was gone, or could not be started.
#[derive(Debug, thiserror::Error)]
#[error("link emulator: {0}")]
pub struct EmulatorError(#[from] io::Error);

/// A direction of a WAN, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the Internet to the router.
    Down,
    /// From the router to the Internet.
    Up,
}

/// One link of an [`Emulator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId(usize);

/// A link's state and totals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The WAN's name.
    pub name: String,
    /// Whether it is cut.
    pub cut: bool,
    /// Towards the router.
    pub down: Counters,
    /// Towards the Internet.
    pub up: Counters,
    /// Both directions' lateness.
    pub lateness: LatenessReport,
}

type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// A lab's link emulator: a handle to its thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Emulator {
    jobs: Mutex<Option<Sender<Job>>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    real_time: bool,
}

impl Emulator {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread, epoll or timer.
    pub fn start() -> Result<Self, EmulatorError> {
        let wake = Arc::new(
            EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
                .map_err(io::Error::from)?,
        );
        let (jobs, inbox) = channel::<Job>();
        let mut core = Core::new(Arc::clone(&wake)).map_err(io::Error::from)?;
        let (ready, started) = channel();
        let thread = std::thread::Builder::new().name("lab-links".into()).spawn(move || {
            let _ = ready.send(become_real_time());
            core.run(&inbox);
        })?;
        let real_time = started.recv().unwrap_or(false);
        Ok(Self { jobs: Mutex::new(Some(jobs)), wake, thread: Some(thread), real_time })
    }

    /// Whether the thread got real-time priority; without it, figures on a busy machine are
    /// worth less.
    #[must_use]
    pub const fn is_real_time(&self) -> bool {
        self.real_time
    }

    /// Adds a link between two devices: `router` is the side whose packets go up.
    ///
    /// # Errors
    /// When the thread is gone or the devices can't be watched.
    pub fn add(
        &self,
        name: &str,
        (down, up): (Shape, Shape),
        seed: u64,
        router: Tun,
        isp: Tun,
    ) -> Result<LinkId, EmulatorError> {
        let link = Link {
            name: name.into(),
            filter: Filter::default(),
            down: Pipe::new(down, seed.wrapping_mul(2)),
            up: Pipe::new(up, seed.wrapping_mul(2).wrapping_add(1)),
            router: None,
            isp: None,
        };
        self.call(move |core| {
            core.links.push(link);
            let index = core.links.len() - 1;
            core.attach(index, Direction::Up, router)?;
            core.attach(index, Direction::Down, isp)?;
            Ok(LinkId(index))
        })?
    }

    /// Gives a link a new router-side device in place of one that was removed.
    ///
    /// # Errors
    /// As [`Emulator::add`].
    pub fn replug(&self, link: LinkId, router: Tun) -> Result<(), EmulatorError> {
        self.call(move |core| core.attach(link.0, Direction::Up, router))?
    }

    /// Closes a link's router-side device, which removes it.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn unplug(&self, link: LinkId) -> Result<(), EmulatorError> {
        self.call(move |core| core.detach(link.0, Direction::Up))
    }

    /// Changes one direction of a link at once.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set(&self, link: LinkId, dir: Direction, shape: Shape) -> Result<(), EmulatorError> {
        self.call(move |core| {
            let now = core.now();
            core.links[link.0].pipe(dir).set_shape(now, shape);
        })
    }

    /// What one direction of a link is like now.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn shape(&self, link: LinkId, dir: Direction) -> Result<Shape, EmulatorError> {
        self.call(move |core| *core.links[link.0].pipe(dir).shape())
    }

    /// Cuts or mends a link, both directions at once. Nobody is told: the devices stay up.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set_cut(&self, link: LinkId, cut: bool) -> Result<(), EmulatorError> {
        self.call(move |core| {
            let now = core.now();
            core.links[link.0].down.set_cut(now, cut);
            core.links[link.0].up.set_cut(now, cut);
        })
    }

    /// Sets what the link's network does to packets.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set_filter(&self, link: LinkId, filter: Filter) -> Result<(), EmulatorError> {
        self.call(move |core| core.links[link.0].filter = filter)
    }

    /// Totals of one link.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn report(&self, link: LinkId) -> Result<LinkReport, EmulatorError> {
        self.call(move |core| core.links[link.0].report())
    }

    /// Runs `job` on the thread between two packets, and waits for its result.
    fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, EmulatorError> {
        let gone = || io::Error::other("its thread is gone");
        let (answer, result) = channel();
        {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let boxed = Box::new(move |core: &mut Core| drop(answer.send(job(core))));
            jobs.as_ref().ok_or_else(gone)?.send(boxed).map_err(|_| gone())?;
        }
        self.wake.write(1).map_err(io::Error::from)?;
        Ok(result.recv().map_err(|_| gone())?)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Without a sender the inbox reads as closed, which ends the thread.
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// First-in-first-out at a low real-time priority: above every ordinary process, below what the
/// system itself may run there.
fn become_real_time() -> bool {
    let Ok(priority) = ThreadPriorityValue::try_from(10) else { return false };
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
    .is_ok()
}

/// How many packets are read from one device before the others and the due ones get their turn.
const BATCH: usize = 64;
/// The largest IP packet.
const MAX_PACKET: usize = 65_535;
/// Spare packet buffers kept for reuse.
const SPARE: usize = 4096;

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

#[derive(Debug)]
struct Core {
    start: Instant,
    epoll: Epoll,
    timer: TimerFd,
    armed: Option<Time>,
    wake: Arc<EventFd>,
    links: Vec<Link>,
    spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

struct Link {
    name: String,
    filter: Filter,
    down: Pipe<Vec<u8>>,
    up: Pipe<Vec<u8>>,
    router: Option<Tun>,
    isp: Option<Tun>,
}

impl Link {
    const fn pipe(&mut self, direction: Direction) -> &mut Pipe<Vec<u8>> {
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

    fn report(&self) -> LinkReport {
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
    fn new(wake: Arc<EventFd>) -> nix::Result<Self> {
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

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn run(&mut self, inbox: &Receiver<Job>) {
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
                                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                            }
                        }
                    }
                    // Setting the timer anew also clears it.
                    TIMER => self.armed = None,
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

    fn attach(
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

    fn detach(&mut self, index: usize, direction: Direction) {
        if let Some(tun) = self.links[index].source(direction).take() {
            let _ = self.epoll.delete(&tun);
        }
    }
}
