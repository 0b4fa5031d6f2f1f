//! Network namespaces that vanish by themselves.
//!
//! A [`Namespace`] has no name in the file system. It lives as long as the thread that made it and
//! the processes in it; those are told by the kernel to die with that thread. So nothing can be
//! left behind, however the lab ends, and labs that run side by side can't collide.
//!
//! Each has its own mount namespace too, with an empty `/run` (so a daemon's journal there belongs
//! to this namespace alone and outlives the daemon, not the lab) and a `/sys` that shows its own
//! devices.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};
use socket2::{Domain, Protocol, Socket, Type};

/// Something in a namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NsError {
    /// No namespace was given.
    #[error(
        "no network namespace for {name}: {source}; run as root, or where unprivileged user \
         namespaces are allowed under `unshare --user --map-root-user --net --mount`"
    )]
    Create {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A system call or file failed.
    #[error("{what} in {name}: {source}")]
    Io {
        /// In which namespace.
        name: String,
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program said no.
    #[error("{what} in {name} failed:\n{stderr}")]
    Program {
        /// In which namespace.
        name: String,
        /// What was run.
        what: String,
        /// What it said.
        stderr: String,
    },
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace of a lab.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    tid: Pid,
    net: File,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes one, with its loopback up. `name` is for messages only.
    ///
    /// # Errors
    /// Without the privilege to.
    pub fn create(name: &str) -> Result<Self, NsError> {
        let fail = |source| NsError::Create { name: name.into(), source };
        let (jobs, inbox) = channel::<Job>();
        let (ready, started) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("ns-{name}"))
            .spawn(move || {
                let born = enter_new().and_then(|()| Ok((gettid(), open_own("net")?)));
                let alive = born.is_ok();
                let _ = ready.send(born);
                if alive {
                    inbox.into_iter().for_each(|job| job());
                }
            })
            .map_err(fail)?;
        let (tid, net) = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread died")))
            .map_err(fail)?;
        let jobs = Mutex::new(Some(jobs));
        let ns = Self { name: name.into(), tid, net, jobs, thread: Some(thread) };
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// Its name within the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The thread that holds it: what `ip link … netns N` and `nsenter --target N` take.
    #[must_use]
    pub const fn tid(&self) -> Pid {
        self.tid
    }

    /// A path that programs such as `nsenter --net=PATH` or `systemd-nspawn` can open while the
    /// lab lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), self.tid).into()
    }

    /// A shell command line that runs a program in here, for people.
    #[must_use]
    pub fn enter_hint(&self) -> String {
        format!("nsenter --target {} --net --mount", self.tid)
    }

    /// Runs `job` on a thread of its own within the namespace and gives its result. Sockets made
    /// there stay in the namespace wherever they are used later. May block as long as it likes.
    ///
    /// # Panics
    /// When `job` does, with its message.
    pub fn run<R: Send>(&self, job: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // Can only fail without the privilege that made the namespace.
                setns(&self.net, CloneFlags::CLONE_NEWNET).expect("enter the lab's namespace");
                job()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Listens for TCP in here: for use from any thread. `SO_REUSEADDR`, non-blocking, IPv6 only
    /// for IPv6.
    ///
    /// # Errors
    /// As bind does.
    pub fn tcp_listener(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.run(|| {
            let socket = tcp_socket(addr)?;
            socket.set_reuse_address(true)?;
            if addr.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.bind(&addr.into())?;
            socket.listen(4096)?;
            Ok(socket.into())
        })
    }

    /// A UDP socket in here, non-blocking.
    ///
    /// # Errors
    /// As bind does.
    pub fn udp_socket(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        self.run(|| {
            let socket = UdpSocket::bind(addr)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// Connects over TCP from in here.
    ///
    /// # Errors
    /// As connect does: refused, unreachable, timed out.
    pub async fn tcp_connect(&self, addr: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        // On the namespace's own thread: a thread of its own per connection would cost more than
        // the connection.
        let socket = self.on_thread(move || tcp_socket(addr))??;
        tokio::net::TcpSocket::from_std_stream(socket.into()).connect(addr).await
    }

    /// A command that will start in here through [`Namespace::spawn`].
    #[must_use]
    pub fn command(program: impl AsRef<OsStr>) -> Command {
        // The kernel kills it when the namespace's thread ends, whatever ends that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
        // A group of its own: Ctrl-C is for the lab, which then ends its children in order.
        command.process_group(0);
        command
    }

    /// Starts what [`Namespace::command`] made, in here.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.on_thread(move || command.spawn())?
    }

    /// Runs a program to its end and gives what it wrote.
    ///
    /// # Errors
    /// When it can't be started or says no.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<Output, NsError> {
        let mut command = Self::command(program);
        command.args(args);
        self.finish(command, None, format!("{program} {}", args.join(" ")))
    }

    /// Runs lines of `ip -batch`.
    ///
    /// # Errors
    /// When one fails; those before it stay done.
    pub fn ip(&self, lines: &str) -> Result<(), NsError> {
        self.batch("ip", lines)
    }

    /// Runs lines of `ip -batch` or `tc -batch`.
    pub(crate) fn batch(&self, program: &str, lines: &str) -> Result<(), NsError> {
        let mut command = Self::command(program);
        command.args(["-batch", "-"]);
        self.finish(command, Some(lines), format!("{program} -batch of:\n{lines}\n")).map(drop)
    }

    /// Loads an nftables script.
    ///
    /// # Errors
    /// When nft refuses it, which then changes nothing.
    pub fn nft(&self, script: &str) -> Result<(), NsError> {
        let mut command = Self::command("nft");
        command.args(["-f", "-"]);
        self.finish(command, Some(script), format!("nft -f of:\n{script}\n")).map(drop)
    }

    /// Sets sysctls, given as `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// When the kernel has none of that name or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<(), NsError> {
        self.run(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/{}", name.replace('.', "/"));
                std::fs::write(&path, value)
                    .map_err(|source| self.error(format!("write {value:?} to {path}"), source))?;
            }
            Ok(())
        })
    }

    /// A device's counters: (bytes received, bytes sent), IP-level for TUN devices.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn device_bytes(&self, device: &str) -> Result<(u64, u64), NsError> {
        let table = self
            .run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))
            .map_err(|source| self.error("read net/dev".into(), source))?;
        let missing = || self.error(format!("find {device}"), io::ErrorKind::NotFound.into());
        let columns = table
            .lines()
            .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))
            .ok_or_else(missing)?;
        let mut columns = columns.split_whitespace().map(|word| word.parse().unwrap_or(0));
        Ok((columns.next().unwrap_or(0), columns.nth(7).unwrap_or(0)))
    }

    fn finish(
        &self,
        mut command: Command,
        input: Option<&str>,
        what: String,
    ) -> Result<Output, NsError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let run = || {
            let mut child = self.spawn(command)?;
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        };
        let output = run().map_err(|source| self.error(what.clone(), source))?;
        if output.status.success() {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(NsError::Program { name: self.name.clone(), what, stderr })
    }

    fn on_thread<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        let gone = || io::Error::other("the namespace's thread is gone");
        let (answer, result) = channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let boxed = Box::new(move || drop(answer.send(job())));
        jobs.as_ref().ok_or_else(gone)?.send(boxed).map_err(|_| gone())?;
        drop(jobs);
        result.recv().map_err(|_| gone())
    }

    fn error(&self, what: String, source: io::Error) -> NsError {
        NsError::Io { name: self.name.clone(), what, source }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tcp_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_own(kind: &str) -> io::Result<File> {
    File::open(format!("/proc/thread-self/ns/{kind}"))
}

/// Moves this thread into fresh network and mount namespaces.
fn enter_new() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    // Nothing mounted here may show outside.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=755"))?;
    // In some containers a new sysfs may not be mounted; the old one then stays.
    let flags = flags | MsFlags::MS_NOEXEC;
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), flags, none);
    Ok(())
}
