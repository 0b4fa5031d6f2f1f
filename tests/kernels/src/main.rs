//! `wanbond-kernels`: the real daemons in a lab on the kernel that runs, with the figures that
//! people are promised. `cross/kernels.sh` boots other kernels and runs it there.
//!
//! ```text
//! wanbond-kernels [--short] [--only CHECK]... SCENARIO...
//!     figures, where the clock is virtual; CHECK: auto, mptcp, stream,
//!     goodput, upload, cut, quiet
//! wanbond-kernels --works
//!     no figures: everything is there and does its part
//! ```
//!
//! The links are the kernel's own netem. It asserts times, which only makes sense on a machine
//! whose clock stands still while the processor is busy with something else: elsewhere a busy
//! machine would break them.
#![forbid(unsafe_code)]

mod bond;
mod cut;
mod probe;
mod report;
mod scenarios;
mod works;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use wanbond_control::TcpMode;

use crate::bond::Bond;
use crate::report::Report;

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.context("no runtime").and_then(|runtime| runtime.block_on(run()));
    match done {
        Ok(report) => report.finish(),
        Err(error) => {
            println!("FAILED {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<Report> {
    let mut wanted = Wanted::default();
    let mut works = false;
    let mut names = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--short" => wanted.short = true,
            "--only" => wanted.only.push(args.next().context("--only needs a check")?),
            "--works" => works = true,
            name => names.push(name.to_owned()),
        }
    }
    let mut report = Report::default();
    if works {
        works::check(&mut report).await?;
        return Ok(report);
    }
    if names.is_empty() {
        bail!("which scenarios? {} or one of the lab's", scenarios::NAMES.join(", "));
    }
    for name in &names {
        for way in WAYS.into_iter().filter(|way| wanted.has_way(*way)) {
            all(&mut report, name, way, &wanted).await?;
        }
    }
    Ok(report)
}

/// What is to be checked.
#[derive(Debug, Default)]
struct Wanted {
    short: bool,
    only: Vec<String>,
}

/// Ways for the LAN's TCP. Begun on lanes, as long as they harm nobody; on lanes to the end; on streams.
const WAYS: [TcpMode; 3] = [TcpMode::Auto, TcpMode::Mptcp, TcpMode::Stream];

impl Wanted {
    fn has(&self, check: &str) -> bool {
        let is_way = |only: &String| WAYS.iter().any(|way| way.as_str() == only);
        self.only.iter().all(is_way) || self.only.iter().any(|only| only == check)
    }

    /// All ways that are named, or those of the form.
    fn has_way(&self, way: TcpMode) -> bool {
        let named = |way: TcpMode| self.only.iter().any(|only| only == way.as_str());
        if WAYS.into_iter().any(named) { named(way) } else { way != TcpMode::Mptcp || !self.short }
    }
}

/// All that is promised of a bond whose LAN's TCP goes that way.
async fn all(report: &mut Report, name: &str, way: TcpMode, wanted: &Wanted) -> Result<()> {
    report.about(&format!("{name}, {way}"));
    let bond = Bond::start(report, &scenarios::named(name)?, way)?;
    bond.idle_round_trips(report).await?;
    if wanted.has("goodput") {
        bond.download(report, way, if wanted.short { 5 } else { 10 }).await?;
    }
    if wanted.has("upload") && !wanted.short {
        bond.upload(report).await?;
    }
    let wans: Vec<_> = bond.lab.wans().map(|wan| wan.name().to_owned()).collect();
    // The first holds the default route. In the short form the other way's turn is the other WAN.
    for (index, wan) in wans.iter().enumerate() {
        if wanted.short && (index == 0) != (way == TcpMode::Auto) {
            continue;
        }
        if wanted.has("cut") {
            cut::cut(&bond, report, wan, way, wanted.short).await?;
        }
        if wanted.has("quiet") && (way == TcpMode::Auto || !wanted.short) {
            cut::quiet(&bond, report, wan).await?;
        }
    }
    bond.stop(report)
}
