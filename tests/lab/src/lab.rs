//! The lab itself: builds what a scenario describes, and takes it down.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

use crate::daemon::{Router, RouterNode, Server, ServerNode, tail};
use crate::emulator::{Direction, Emulator, mix};
use crate::error::LabError;
use crate::netem::Netem;
use crate::ns::Namespace;
use crate::registry::LabDir;
use crate::scenario::{Action, Event, RouterSpec, Scenario, WanSpec};
use crate::topology::{self, WanNet};
use crate::traffic::origin::{self, Stats};
use crate::wan::{Link, Wan, WanState, open_tun};

/// A running lab. Dropping it ends its daemons and takes everything away.
///
/// Methods that take an index or a name panic where the scenario has no such thing: that is a
/// mistake in the test.
#[derive(Debug)]
pub struct Lab {
    // In the order they must go: daemons first, then what they stand on.
    server: ServerNode,
    routers: Vec<RouterNode>,
    emulator: Emulator,
    wans: Vec<WanState>,
    vps: Namespace,
    inet: Namespace,
    origin: Arc<Stats>,
    runtime: Option<Runtime>,
    dir: LabDir,
    log_dir: PathBuf,
    scenario: Scenario,
}

impl Lab {
    /// Builds a lab. Takes a few tenths of a second.
    ///
    /// # Errors
    /// Without the privilege (root, or root of a user namespace), the programs (`ip`, `nft`,
    /// `setpriv`) or the devices (`/dev/net/tun`) it needs.
    pub fn build(scenario: &Scenario) -> Result<Self, LabError> {
        scenario.check()?;
        let dir = LabDir::create()
            .map_err(|source| LabError::File { path: std::env::temp_dir(), source })?;
        let log_dir = std::env::var_os("WANBOND_LAB_LOGS")
            .map_or_else(|| dir.path().to_owned(), |logs| Path::new(&logs).join(dir.id()));
        std::fs::create_dir_all(&log_dir)
            .map_err(|source| LabError::File { path: log_dir.clone(), source })?;
        let emulator = Emulator::start()?;
        let inet = namespace("inet", &[topology::FORWARDING, topology::INET])?;
        let vps = namespace("vps", &[topology::FORWARDING])?;
        vps.ip(&topology::vps_lines(inet.tid().as_raw()))?;
        inet.ip(&topology::inet_lines())?;
        let traffic = |source| LabError::Traffic { what: "start the origin".into(), source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lab-origin")
            .enable_all()
            .build()
            .map_err(traffic)?;
        let origin = origin::start(&runtime, &inet).map_err(traffic)?;

        let routers = scenario
            .router
            .iter()
            .enumerate()
            .map(|(index, spec)| build_router(index, spec, &scenario.wan))
            .collect::<Result<Vec<_>, _>>()?;
        let mut lab = Self {
            server: ServerNode::default(),
            routers,
            emulator,
            wans: Vec::new(),
            vps,
            inet,
            origin,
            runtime: Some(runtime),
            dir,
            log_dir,
            scenario: scenario.clone(),
        };
        for (index, spec) in scenario.wan.iter().enumerate() {
            let wan = lab.build_wan(index, spec)?;
            lab.wans.push(wan);
        }
        Ok(lab)
    }

    /// For tests: builds a lab, or tells why this machine can't and gives none. Where `CI` is
    /// `true`, that is a failure.
    ///
    /// # Panics
    /// When the lab can't be built for another reason than a missing privilege, or in CI.
    #[must_use]
    pub fn build_or_skip(scenario: &Scenario) -> Option<Self> {
        match Self::build(scenario) {
            Ok(lab) => Some(lab),
            Err(error) => {
                let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
                assert!(error.is_missing_privilege() && !ci, "{error}");
                // Not eprintln, which the test harness swallows when a test passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
                None
            }
        }
    }

    /// Its name, unique on this machine.
    #[must_use]
    pub fn id(&self) -> &str {
        self.dir.id()
    }

    /// Its folder, gone with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the daemons' logs are: in `WANBOND_LAB_LOGS`, where they stay, if that is set; else
    /// in the lab's folder.
    #[must_use]
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// What it was built from.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The links.
    #[must_use]
    pub const fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// The namespace of the origin servers.
    #[must_use]
    pub const fn inet(&self) -> &Namespace {
        &self.inet
    }

    /// What the origin servers have seen.
    #[must_use]
    pub fn origin(&self) -> &Stats {
        &self.origin
    }

    /// The VPS's namespace.
    #[must_use]
    pub const fn vps(&self) -> &Namespace {
        &self.vps
    }

    /// A router, from 0.
    ///
    /// # Panics
    /// When the scenario has no such router.
    #[must_use]
    pub fn router(&self, index: usize) -> Router<'_> {
        Router { lab: self, index, node: &self.routers[index] }
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> Server<'_> {
        Server { lab: self, node: &self.server }
    }

    /// The first router's LAN host, from 0.
    ///
    /// # Panics
    /// When the scenario has no such host.
    #[must_use]
    pub fn lan(&self, host: usize) -> &Namespace {
        self.lan_of(0, host)
    }

    /// A LAN host of any router.
    ///
    /// # Panics
    /// When the scenario has no such host.
    #[must_use]
    pub fn lan_of(&self, router: usize, host: usize) -> &Namespace {
        &self.routers[router].lan[host]
    }

    /// A WAN by its name.
    ///
    /// # Panics
    /// When the scenario has no such WAN.
    #[must_use]
    pub fn wan(&self, name: &str) -> Wan<'_> {
        let state = self.wans.iter().find(|wan| wan.spec.name == name);
        let known = || self.wans.iter().map(|wan| wan.spec.name.clone()).collect::<Vec<_>>();
        let state = state.unwrap_or_else(|| panic!("no WAN {name:?}, only {:?}", known()));
        Wan { lab: self, state }
    }

    /// All WANs in the scenario's order.
    pub fn wans(&self) -> impl Iterator<Item = Wan<'_>> {
        self.wans.iter().map(|state| Wan { lab: self, state })
    }

    /// All namespaces with their names, for people who want to look around.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let routers = self.routers.iter().flat_map(|node| node.lan.iter().chain([&node.ns]));
        routers.chain(self.wans.iter().map(|wan| &wan.isp)).chain([&self.vps, &self.inet])
    }

    /// Does to a WAN what an event of the scenario says.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn apply(&self, event: &Event) -> Result<(), LabError> {
        let wan = self.wan(&event.wan);
        match event.action {
            Action::Cut => wan.cut(),
            Action::Restore => wan.restore(),
            Action::Set => {
                wan.change(Direction::Down, &event.down)?;
                wan.change(Direction::Up, &event.up)
            }
        }
    }

    /// Lets the scenario's events happen as their times come, for `time`, then returns. Run it on
    /// a thread of its own beside the traffic.
    ///
    /// # Errors
    /// When an event can't be applied.
    pub fn play(&self, time: Duration) -> Result<(), LabError> {
        self.play_until(time, || false)
    }

    /// As [`Lab::play`], but ends within a tenth of a second of `stop` saying so.
    ///
    /// # Errors
    /// When an event can't be applied.
    pub fn play_until(&self, time: Duration, stop: impl Fn() -> bool) -> Result<(), LabError> {
        let start = Instant::now();
        let sleep_until = |at: Duration| {
            while !stop() {
                let left = at.saturating_sub(start.elapsed());
                if left.is_zero() {
                    return true;
                }
                std::thread::sleep(left.min(Duration::from_millis(100)));
            }
            false
        };
        for (at, event) in self.scenario.timeline(time) {
            if !sleep_until(at) {
                return Ok(());
            }
            self.apply(event)?;
        }
        sleep_until(time);
        Ok(())
    }

    /// For the reader of a failed test.
    fn show_logs(&self) {
        let logs = std::fs::read_dir(&self.log_dir).into_iter().flatten().flatten();
        for path in
            logs.map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "log"))
        {
            eprintln!("--- end of {} ---\n{}", path.display(), tail(&path, 60));
        }
    }

    /// Ends every process that is still in one of the lab's namespaces: daemons, and what tests
    /// and people have started there. While the lab holds them, the namespaces' numbers are its
    /// own, so nobody else's process can be meant.
    fn end_strays(&self) {
        let ours: Vec<_> =
            self.namespaces().filter_map(|ns| std::fs::read_link(ns.path()).ok()).collect();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let ns = std::fs::read_link(entry.path().join("ns/net"));
            if ns.is_ok_and(|ns| ours.contains(&ns)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    fn build_wan(&self, index: usize, spec: &WanSpec) -> Result<WanState, LabError> {
        // A scenario has at most 200 WANs.
        let number = u8::try_from(index + 1).unwrap_or(u8::MAX);
        let net = WanNet::new(number, spec.ipv6);
        let metric = u32::from(number) * 10;
        let router = &self.routers[spec.router].ns;
        let isp = namespace(&format!("isp-{}", spec.name), &[topology::FORWARDING])?;
        let link = if spec.veth {
            router.ip(&format!(
                "link add {} type veth peer name {} netns {}",
                spec.name,
                topology::LINE,
                isp.tid()
            ))?;
            Link::Veth
        } else if spec.netem {
            let shapes = (spec.down, spec.up);
            Link::Netem(Box::new(Netem::build((router, &spec.name), &isp, shapes, spec.cut)?))
        } else {
            let seed = mix(self.scenario.seed.wrapping_mul(1000).wrapping_add(u64::from(number)));
            let near = open_tun(router, &spec.name)?;
            let far = open_tun(&isp, topology::LINE)?;
            let link = self.emulator.add(&spec.name, (spec.down, spec.up), seed, near, far)?;
            self.emulator.set_filter(link, spec.filter)?;
            self.emulator.set_cut(link, spec.cut)?;
            Link::Emulated(link)
        };
        let (vps, inet) = (self.vps.tid().as_raw(), self.inet.tid().as_raw());
        isp.ip(&topology::isp_lines(&net, spec.mtu, vps, inet))?;
        isp.nft(&topology::isp_nft(&net))?;
        self.vps.ip(&topology::far_lines(&net, 202))?;
        self.inet.ip(&topology::far_lines(&net, 201))?;
        router.ip(&net.router_lines(&spec.name, spec.mtu, metric))?;
        Ok(WanState {
            spec: spec.clone(),
            metric,
            isp,
            link,
            net: Mutex::new(net),
            device: Mutex::new(spec.name.clone()),
        })
    }
}

fn build_router(index: usize, spec: &RouterSpec, wans: &[WanSpec]) -> Result<RouterNode, LabError> {
    let suffix = if index == 0 { String::new() } else { (index + 1).to_string() };
    let ns = namespace(&format!("router{suffix}"), &[topology::FORWARDING])?;
    if !spec.mptcp {
        ns.sysctl(&[("net.mptcp.enabled", "0")])?;
    }
    let peers = topology::lan_peers(spec.lan_hosts);
    let mut lan = Vec::new();
    for (host, peer) in peers.iter().enumerate() {
        let number = if host == 0 { String::new() } else { format!("-{}", host + 1) };
        let client = namespace(&format!("lan{suffix}{number}"), &[])?;
        client.ip(&topology::lan_lines(index, host, peer, ns.tid().as_raw()))?;
        lan.push(client);
    }
    ns.ip(&topology::router_lan_lines(index, &peers))?;
    let mine: Vec<_> =
        wans.iter().filter(|wan| wan.router == index).map(|wan| wan.name.as_str()).collect();
    if !mine.is_empty() {
        ns.nft(&topology::router_nft(&mine))?;
    }
    Ok(RouterNode { ns, lan, state: Mutex::default() })
}

fn namespace(name: &str, settings: &[&[(&str, &str)]]) -> Result<Namespace, LabError> {
    let ns = Namespace::create(name)?;
    ns.sysctl(topology::EVERYWHERE)?;
    let _ = ns.sysctl(topology::CONGESTION);
    for settings in settings {
        ns.sysctl(settings)?;
    }
    Ok(ns)
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.end_strays();
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed where a test's own runtime runs, nor needed.
            runtime.shutdown_background();
        }
    }
}
