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
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::core::{Core, Job, Link};
use super::{Counters, Filter, LatenessReport, Shape};
use crate::tun::Tun;

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

    /// Adds a link between two devices, of these shapes down and up: `router` is the side whose
    /// packets go up.
    ///
    /// # Errors
    /// When the thread is gone or the devices can't be watched.
    pub(crate) fn add(
        &self,
        name: &str,
        shapes: (Shape, Shape),
        seed: u64,
        router: Tun,
        isp: Tun,
    ) -> Result<LinkId, EmulatorError> {
        let link = Link::new(name, shapes, seed);
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
    pub(crate) fn replug(&self, link: LinkId, router: Tun) -> Result<(), EmulatorError> {
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
