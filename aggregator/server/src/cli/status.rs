//! `wanbond-server status`: asks the running server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use wanbond_control::request::{from_line, to_line};
use wanbond_control::{Request, Response, SERVER_SOCKET, ServerStatus, metrics};

/// More than the status of ten thousand routers.
const MAX_ANSWER: u64 = 16 << 20;

/// Prints the status.
pub(super) fn print(look: Look) -> anyhow::Result<()> {
    let status = ask()?;
    match look {
        Look::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Look::Prometheus => print!("{}", metrics::server(&status)),
        Look::Text => print!("{}", text(&status)),
    }
    Ok(())
}

/// How the status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// For people.
    Text,
    /// As one document.
    Json,
    /// As metrics.
    Prometheus,
}

fn ask() -> anyhow::Result<ServerStatus> {
    let address = SocketAddr::from_abstract_name(SERVER_SOCKET)?;
    let mut stream = UnixStream::connect_addr(&address).context(
        "the server is not running (in this network namespace); start it with `wanbond-server run`",
    )?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(to_line(&Request::Status)?.as_bytes())?;
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER))
        .read_until(b'\n', &mut line)
        .context("the server gave no answer")?;
    if line.is_empty() {
        bail!("the server gave no answer; are you the user it runs as, or root?");
    }
    match from_line(&line).context("the server gave an answer of another version")? {
        Response::ServerStatus(status) => Ok(*status),
        Response::Error(error) => bail!("{error}"),
        _ => bail!("the server gave an answer to something else"),
    }
}

fn text(status: &ServerStatus) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    let flows = &status.flows;
    let _ = writeln!(
        out,
        "wanbond-server {}, up {:.0} s, Linux {}",
        status.version, status.uptime_s, status.kernel
    );
    for listen in &status.listen {
        let _ = writeln!(out, "listening on {listen}");
    }
    let _ = writeln!(
        out,
        "flows: {} now, {} in all ({} refused, {} unreachable, {} timed out)",
        flows.active,
        flows.total,
        flows.refused_total,
        flows.unreachable_total,
        flows.timed_out_total
    );
    let width = status.routers.iter().map(|router| router.name.len()).max().unwrap_or(0);
    for router in &status.routers {
        let state = if router.connected { "connected" } else { "away" };
        let _ = writeln!(
            out,
            "{:width$}  {state:9}  {} lanes, {} flows, {} bytes in, {} bytes out, {} this month{}  {}",
            router.name,
            router.lanes,
            router.flows,
            router.rx_bytes,
            router.tx_bytes,
            router.month_rx_bytes + router.month_tx_bytes,
            router.month_limit_bytes.map(|limit| format!(" of {limit}")).unwrap_or_default(),
            router.addresses.join(" ")
        );
    }
    for (reason, count) in &status.refusals {
        let _ = writeln!(out, "refused, {reason}: {count}");
    }
    out
}
