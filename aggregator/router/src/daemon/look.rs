//! Looks around for a diagnosis: does a captive portal stand in the way, are names answered.
//!
//! A captive portal answers HTTP in everybody's place. So the server's own address is asked, over a WAN
//! over which the server itself does not answer: who says "log in first" there is not the server. No
//! third party has to be asked for that.

use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wanbond_control::diagnosis::Portal;
use wanbond_control::words::Role;
use wanbond_linux::socket::{ConnectOptions, connect};
use wanbond_linux::sysctl;
use wanbond_proto::wan::State;

use super::brain::Brain;
use crate::bypass::{ask, name_servers};

const HTTP: u16 = 80;
/// A portal is next door.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of an answer, what tells of a portal stands in its beginning.
const MOST: usize = 4096;
/// What a server said of its load is believed for so long.
const LOAD_HOLDS: Duration = Duration::from_secs(30);
/// A file that nobody has.
const FILE: &str = "/wanbond-looks-for-a-login-page";

impl Brain {
    /// Looks for portals, and whether names are answered.
    pub(super) fn look_around(
        &self,
    ) -> impl Future<Output = (Vec<Portal>, Option<bool>)> + Send + use<> {
        let mut looking = JoinSet::new();
        let server = self.shared.server.borrow().clone();
        let host = self.shared.servers.current();
        let host = host.and_then(|server| Some(server.code.endpoints.first()?.host.clone()));
        for wan in &self.wans {
            let Ok(facts) = &wan.facts else { continue };
            if wan.role == Role::Off || wan.health.state() == State::Up {
                continue;
            }
            for source in facts.sources() {
                let Some(address) = server.reachable_from(source) else { continue };
                let (name, device) = (wan.name.to_string(), facts.device.clone());
                let host = host.clone().unwrap_or_else(|| address.ip().to_string());
                looking.spawn(boxed(async move {
                    let asked = ask_http(source, device, address.ip(), &host);
                    let answer = timeout(PATIENCE, asked).await.ok()??;
                    let login = login_page(&answer, &host, address.ip())?;
                    Some(Portal { wan: name, login })
                }));
            }
        }
        async move {
            let (portals, names) = tokio::join!(
                async {
                    let mut found: Vec<Portal> = Vec::new();
                    while let Some(portal) = looking.join_next().await {
                        // One family is enough.
                        if let Ok(Some(portal)) = portal
                            && found.iter().all(|known| known.wan != portal.wan)
                        {
                            found.push(portal);
                        }
                    }
                    found
                },
                async {
                    match name_servers::first() {
                        Some(server) => Some(ask::works(server).await),
                        None => None,
                    }
                }
            );
            (portals, names)
        }
    }

    /// How busy the server is, if it says that it is.
    pub(super) fn server_load(&self) -> Option<u8> {
        let load = *self.shared.server_load.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.shared.clock.now();
        load.filter(|(_, said)| now.since(*said) < LOAD_HOLDS).map(|(percent, _)| percent)
    }
}

/// Bytes that a TCP connection may receive ahead at most.
pub(super) fn receive_window() -> Option<u64> {
    let limits = sysctl::get("net/ipv4/tcp_rmem").ok()?;
    // Half of the buffer is the window (tcp_adv_win_scale, by default).
    limits.split_whitespace().nth(2)?.parse::<u64>().ok().map(|bytes| bytes / 2)
}

/// The beginning of an HTTP answer.
async fn ask_http(source: IpAddr, device: String, server: IpAddr, host: &str) -> Option<Vec<u8>> {
    let options =
        ConnectOptions { source: Some(source), device: Some(device), ..ConnectOptions::default() };
    let mut stream = connect(SocketAddr::new(server, HTTP), &options).await.ok()?;
    let request = format!("GET {FILE} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while answer.len() < MOST {
        match stream.read_buf(&mut answer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    Some(answer)
}

/// Where to log in, if this is a portal's answer and not that of the server's own web server, which has
/// no such file, or sends everybody to HTTPS at its own name. Empty where the answer does not say.
fn login_page(answer: &[u8], host: &str, server: IpAddr) -> Option<String> {
    /// RFC 6585 §6.
    const LOGIN_REQUIRED: &str = "511";
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.lines();
    let mut status = lines.next()?.split(' ');
    if !status.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = status.next()?;
    let location = lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim())
    });
    match (status, location) {
        (LOGIN_REQUIRED | "200", _) => Some(location.map(plain).unwrap_or_default()),
        (redirect, Some(location)) if redirect.starts_with('3') => {
            let to = location.split_once("://")?.1;
            let to = to.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
            let own = [host.to_ascii_lowercase(), server.to_string(), format!("[{server}]")];
            let is_own =
                own.iter().any(|own| to == *own || to.strip_prefix(own).is_some_and(is_port));
            (!is_own).then(|| plain(location))
        }
        _ => None,
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// A stranger's text, fit to be shown.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_page_is_told_from_a_web_server() {
        let page = |answer: &str| {
            login_page(answer.as_bytes(), "vps.example", "192.0.2.9".parse().unwrap())
        };
        let to = |place: &str| page(&format!("HTTP/1.1 302 Found\r\nlocation:  {place}\r\n\r\n"));
        assert_eq!(to("http://login.hotel/?a=b").as_deref(), Some("http://login.hotel/?a=b"));
        assert_eq!(to("http://10.0.0.1:8080/x").as_deref(), Some("http://10.0.0.1:8080/x"));
        for own in [
            "https://vps.example/wanbond",
            "https://VPS.example:8443",
            "https://192.0.2.9/",
            "/login",
        ] {
            assert_eq!(to(own), None, "{own}");
        }
        assert!(to("https://vps.example.evil/").is_some());
        assert_eq!(page("HTTP/1.1 200 OK\r\n\r\n<html>"), Some(String::new()));
        assert_eq!(
            page("HTTP/1.1 511 Network Authentication Required\r\n\r\n"),
            Some(String::new())
        );
        for none in
            ["", "HTTP/1.1 404 Not Found\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1", "HTTP/2 200"]
        {
            assert_eq!(page(none), None, "{none}");
        }
        assert_eq!(plain("http://a\x1b[31m\u{202e}b c"), "http://a[31mbc");
    }
}
