//! Network namespaces for tests.
//!
//! A test runs on a thread of its own in a fresh, nameless namespace, which the kernel removes with
//! the last thread and socket in it: nothing is left behind, whatever happens to the test. Commands
//! started by the test are in the namespace too.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{geteuid, gettid};
use tokio::runtime::{Builder, Handle};

/// Runs `test` in a new namespace. Without root it fails where CI is set and is skipped elsewhere.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    if !geteuid().is_root() {
        let told = "needs root, to make network namespaces";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{told}");
        // Not eprintln, which the test harness swallows when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {told}");
        return;
    }
    let result = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter_new();
                // Made after entering, so that its threads are in there as well.
                let runtime =
                    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                runtime.block_on(test());
            })
            .join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    // Link-local addresses are usable at once, instead of being probed for a second or two.
    sh("ip link set lo up; sysctl -qw net.ipv6.conf.default.accept_dad=0");
}

/// A further namespace, kept by a thread that sits in it.
pub(crate) struct Neighbour {
    /// For `ip link … netns N`.
    pub(crate) id: i32,
    file: File,
    _stop: mpsc::Sender<()>,
}

impl Neighbour {
    pub(crate) fn new() -> Self {
        let (stop, stopped) = mpsc::channel();
        let (ready, made) = mpsc::channel();
        std::thread::spawn(move || {
            enter_new();
            let file = File::open("/proc/thread-self/ns/net").unwrap();
            ready.send((gettid().as_raw(), file)).unwrap();
            let _ = stopped.recv();
        });
        let (id, file) = made.recv().expect("a namespace");
        Self { id, file, _stop: stop }
    }

    /// Runs something in the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let runtime = Handle::try_current().ok();
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                    let _guard = runtime.as_ref().map(Handle::enter);
                    work()
                })
                .join()
        })
        .unwrap()
    }

    /// Runs a future's polls in the namespace. Sockets it makes stay there.
    pub(crate) fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let runtime = Handle::current();
        self.run(move || runtime.block_on(future))
    }

    /// Runs a shell command in the namespace.
    pub(crate) fn sh(&self, command: &str) -> String {
        self.run(|| sh(command))
    }
}

/// Runs a shell command and returns what it says. Fails the test if it fails.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(
        output.status.success(),
        "`{command}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A pair of links named `name`, one here and one over there, both up. Addresses are `ip addr add`
/// words; IPv6 ones are usable at once.
pub(crate) fn link(name: &str, here: &[&str], neighbour: &Neighbour, there: &[&str]) {
    sh(&format!("ip link add {name} type veth peer name {name} netns {}", neighbour.id));
    let up = |addresses: &[&str]| {
        let mut text = format!("ip link set {name} up;");
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            text += &format!("ip addr add {address} dev {name} {nodad};");
        }
        text
    };
    sh(&up(here));
    neighbour.sh(&up(there));
}

/// Everything that wanbond could have changed in this namespace, as text.
pub(crate) fn dump() -> String {
    sh("for family in -4 -6; do
            ip $family rule show; ip $family route show table all | sort
        done
        ip mptcp endpoint show; ip mptcp limits show
        nft list ruleset
        sysctl net.ipv4.tcp_slow_start_after_idle net.ipv4.tcp_rmem net.ipv4.conf.all.rp_filter")
}

/// Waits for a condition. The limit is for tests that would hang, not a measurement.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patient(what, waiting).await;
}

/// As [`until`], for a future.
pub(crate) async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting after a minute: {what}"),
    }
}
