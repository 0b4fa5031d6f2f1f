//! A lab for the tests of the LuCI app: server, router and two lines, with the router on a ubus broker
//! beside a netifd, as on OpenWrt.
//!
//! It takes one command a line, `{"id":1,"do":"cut","wan":"lte"}`, and answers each by a line,
//! `{"id":1,"ok":…}` or `{"id":1,"error":"…"}`. Its first line tells where things are. It ends, and the
//! lab with it, when its input does.

#![forbid(unsafe_code)]

mod netifd;
mod spare;

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use wanbond_lab::Lab;
use wanbond_lab::scenario::Scenario;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, origin};
use wanbond_openwrt::{Bus, Provider};

use crate::spare::Spare;

/// Two lines of a household, quick to answer; the second one's device is a modem's.
const SCENARIO: &str = r#"
name = "luci"
description = "fibre of 50/20 Mbit/s and LTE of 30/10 Mbit/s"
[[wan]]
name = "fibre"
down = { rate = "50Mbit/s", delay = "5ms", queue = "80ms" }
up = { rate = "20Mbit/s", delay = "5ms", queue = "80ms" }
[[wan]]
name = "lte"
down = { rate = "30Mbit/s", delay = "20ms", jitter = "3ms", queue = "120ms" }
up = { rate = "10Mbit/s", delay = "20ms", jitter = "3ms", queue = "120ms" }
"#;

/// How long a daemon may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    /// Start the router's daemon.
    Start,
    /// End it with SIGTERM.
    Stop,
    /// What procd does when the configuration was changed: as the init script, refuse a wrong one, have a
    /// running daemon read it again, start one that does not run.
    Reload,
    /// Start the VPS's daemon.
    ServerStart,
    /// End it.
    ServerStop,
    /// Start another server, in the first line's ISP, and get a router's pairing code for it.
    SpareStart,
    /// End ubusd, and netifd with it.
    BusStop,
    /// Start them anew.
    BusStart,
    /// A new router's pairing code.
    Code { name: String },
    /// Let a line go dead.
    Cut { wan: String },
    /// And come back.
    Restore { wan: String },
    /// Download from a host in the LAN.
    Download { bytes: u64 },
    /// The address that a web server in the Internet sees a host of the LAN come from.
    SeenFrom,
    /// The router's firewall tables, as nft lists them.
    Tables,
    /// What the router's daemon uses.
    Usage,
    /// The end of its log.
    Log,
}

#[derive(Debug, Deserialize)]
struct Line {
    id: u64,
    #[serde(flatten)]
    command: Command,
}

fn main() -> Result<()> {
    let lab = Lab::build(&Scenario::parse(SCENARIO, "luci".as_ref())?)?;
    let router = lab.router(0);
    let socket = router.ubus_path();
    let stage = Stage {
        lab: &lab,
        bus: Mutex::new(Some(Ubus::start(&lab, &socket))),
        spare: Mutex::default(),
    };
    lab.server().start()?;
    // Writes the file, so that the daemon is not paired by the lab: that is what is tried here.
    router.configure(&router.config(String::new()))?;
    say(&json!({"ready": {
        "id": lab.id(),
        "ubus": socket,
        "config": router.config_path(),
        "log": router.log_path(),
        "networks": netifd::dump(&lab)["interface"],
    }}));
    let runtime = tokio::runtime::Runtime::new()?;
    std::thread::scope(|scope| {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let (stage, runtime) = (&stage, &runtime);
            // Downloads and other commands go on beside each other.
            scope.spawn(move || say(&answer(stage, runtime, &line)));
        }
    });
    Ok(())
}

/// The lab and what stands in it beside its own router and server.
struct Stage<'a> {
    lab: &'a Lab,
    bus: Mutex<Option<Ubus>>,
    spare: Mutex<Option<Spare>>,
}

/// ubusd, and netifd on it.
struct Ubus {
    _netifd: Provider,
    _bus: Bus,
}

impl Ubus {
    fn start(lab: &Lab, socket: &Path) -> Self {
        let bus = Bus::start(socket);
        let netifd = Provider::start(socket, "network.interface", "dump", netifd::dump(lab));
        Self { _netifd: netifd, _bus: bus }
    }
}

fn answer(stage: &Stage<'_>, runtime: &tokio::runtime::Runtime, line: &str) -> Value {
    match serde_json::from_str::<Line>(line) {
        Err(error) => json!({"id": null, "error": error.to_string()}),
        Ok(Line { id, command }) => match obey(stage, runtime, command) {
            Ok(ok) => json!({"id": id, "ok": ok}),
            Err(error) => json!({"id": id, "error": format!("{error:#}")}),
        },
    }
}

fn obey(stage: &Stage<'_>, runtime: &tokio::runtime::Runtime, command: Command) -> Result<Value> {
    let lab = stage.lab;
    let router = lab.router(0);
    match command {
        Command::Start => router.start()?,
        Command::Stop => {
            let (status, left) = router.stop()?;
            if !status.success() || !left.is_empty() {
                bail!("the router ended with {status} and left {left:?}");
            }
        }
        Command::Reload => {
            router.cli(&["check"]).context("the daemon goes on with what it has")?;
            if router.ended().is_none() && router.pid().is_some() {
                router.reload()?;
            } else {
                router.start()?;
            }
        }
        Command::ServerStart => lab.server().start()?,
        Command::ServerStop => drop(lab.server().stop()?),
        Command::SpareStart => {
            let spare = Spare::start(lab)?;
            let code = spare.code.clone();
            *stage.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
            return Ok(code.into());
        }
        Command::BusStop => drop(stage.bus.lock().unwrap_or_else(PoisonError::into_inner).take()),
        Command::BusStart => {
            let bus = Ubus::start(lab, &router.ubus_path());
            *stage.bus.lock().unwrap_or_else(PoisonError::into_inner) = Some(bus);
        }
        Command::Code { name } => return Ok(lab.server().add_router(&name)?.trim().into()),
        Command::Cut { wan } => known(lab, &wan)?.cut()?,
        Command::Restore { wan } => known(lab, &wan)?.restore()?,
        Command::Download { bytes } => {
            let job = Download::new((ORIGIN_V4, origin::HTTP).into(), bytes);
            let job = async { tokio::time::timeout(PATIENCE, download(lab.lan(0), &job)).await };
            let got = runtime.block_on(job).context("the download does not end")?;
            return Ok(json!({"complete": got.complete, "bytes": got.bytes}));
        }
        Command::SeenFrom => {
            let seen = async { tokio::time::timeout(PATIENCE, spare::seen_from(lab)).await };
            return Ok(runtime.block_on(seen).context("no answer")??.into());
        }
        Command::Tables => {
            let out = router.ns().output("nft", &["list", "ruleset"])?;
            return Ok(String::from_utf8_lossy(&out.stdout).into());
        }
        Command::Usage => {
            let usage = router.usage()?;
            return Ok(json!({"rss": usage.rss, "cpu_s": usage.cpu.as_secs_f64()}));
        }
        Command::Log => return Ok(router.log().into()),
    }
    Ok(Value::Null)
}

fn known<'a>(lab: &'a Lab, wan: &str) -> Result<wanbond_lab::Wan<'a>> {
    let found = lab.wans().find(|known| known.name() == wan);
    found.with_context(|| format!("there is no WAN {wan}"))
}

fn say(what: &Value) {
    static OUT: Mutex<()> = Mutex::new(());
    let _one_at_a_time = OUT.lock();
    let mut out = std::io::stdout();
    // When nobody listens any more, the input ends as well.
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}
