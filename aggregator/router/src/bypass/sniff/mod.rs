//! Rules with domains, where nobody has told nftables of the domains' addresses: the name that a
//! connection gives itself decides.
//!
//! A TCP connection that a rule sends over a WAN is connected to its target from here, over that WAN, and
//! its bytes are passed on as they are. The target's address is put into the rules' sets, so that the
//! connections that follow are the kernel's alone.
//!
//! A QUIC connection is seen when its first datagram is about to enter the tunnel. If a rule leads
//! elsewhere, that one datagram is dropped, and the address noted: nothing has answered the client yet, so
//! when it sends it again, the kernel decides anew, by then with the address. That costs the first
//! connection to an address a second or two; nothing of it has gone the wrong way. Where the name is only
//! in the second datagram, the server may have answered the first: such a connection stays in the tunnel,
//! and the next one does not.

pub(crate) mod name;
pub(crate) mod quic;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wanbond_relay::boxed;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use wanbond_linux::firewall::note_address;
use wanbond_linux::special::is_special;

use super::Rule;
use name::{Look, of_stream};
use quic::Initials;

/// A client that has something to say says it within this time.
const WAIT: Duration = Duration::from_millis(150);
/// Between two looks while more is to come.
const AGAIN: Duration = Duration::from_millis(5);
const CONNECT: Duration = Duration::from_secs(20);
/// Servers that speak first (FTP, SSH, mail): their clients are not waited for.
const SERVER_FIRST: &[u16] = &[21, 22, 25, 110, 143, 587];
/// Addresses that are remembered to have been noted.
const MOST_NOTED: usize = 4096;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A rule and where it sends connections at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sniffed {
    pub(crate) rule: Rule,
    /// The devices of its networks.
    pub(crate) devices: Vec<String>,
    pub(crate) way: Way,
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// From one of these addresses, which are the WANs'.
    From(Vec<IpAddr>),
    /// Nowhere.
    Nowhere,
    /// As if there were no rule; through the server in any case.
    Usual,
}

/// The rules, for who carries connections.
#[derive(Debug)]
pub(crate) struct Sniffer {
    /// All rules in their order; none where no rule has a domain.
    rules: watch::Sender<Arc<[Sniffed]>>,
    noted: Mutex<HashSet<(String, IpAddr)>>,
    /// What QUIC connections have said so far.
    initials: Mutex<Initials>,
}

impl Default for Sniffer {
    fn default() -> Self {
        Self {
            rules: watch::Sender::new(Arc::new([])),
            noted: Mutex::default(),
            initials: Mutex::default(),
        }
    }
}

impl Sniffer {
    /// Takes new rules. `fresh`: nothing that was noted is known any more.
    pub(crate) fn set(&self, rules: Vec<Sniffed>, fresh: bool) {
        let named = rules.iter().any(|sniffed| !sniffed.rule.domains.is_empty());
        let rules = if named { rules } else { Vec::new() };
        let changed = self.rules.send_if_modified(|was| {
            let news = **was != *rules;
            if news {
                *was = rules.into();
            }
            news
        });
        if fresh || changed {
            self.noted.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Where the connection goes; waits a moment for its first bytes.
    pub(crate) async fn way(&self, client: &TcpStream, target: SocketAddr) -> Way {
        let rules = Arc::clone(&self.rules.borrow());
        if rules.is_empty() || SERVER_FIRST.contains(&target.port()) || is_special(target.ip()) {
            return Way::Usual;
        }
        let Some(name) = name_of(client).await else { return Way::Usual };
        self.note(&rules, &name, target.ip());
        let Ok(from) = client.peer_addr() else { return Way::Usual };
        let neighbour = Neighbour::find(from.ip());
        let fits = |sniffed: &&Sniffed| sniffed.fits(&name, &neighbour, from.ip(), target);
        match rules.iter().find(fits) {
            // Earlier rules without domains that sent it elsewhere have done so in the kernel.
            Some(sniffed) => {
                debug!(%name, %target, rule = sniffed.rule.name, "told by its name");
                sniffed.way_to(target)
            }
            None => Way::Usual,
        }
    }

    /// Whether a packet that is to enter the tunnel may. One that begins a QUIC connection which has to
    /// go another way may not.
    pub(crate) fn admits(&self, packet: &[u8]) -> bool {
        let Some((target, datagram)) = quic::may_begin(packet) else { return true };
        let rules = Arc::clone(&self.rules.borrow());
        if rules.is_empty() || is_special(target.ip()) {
            return true;
        }
        let look = self.initials.lock().unwrap_or_else(PoisonError::into_inner).look(datagram);
        let Look::Name(name) = look else { return true };
        let news = self.note(&rules, &name, target.ip());
        // Who sends it, the packet does not tell any more: the kernel will know when it comes again.
        let fits = |sniffed: &&Sniffed| sniffed.fits_target(&name, target, UDP);
        let leads_away = rules.iter().find(fits).is_some_and(|s| s.way_to(target) != Way::Usual);
        if news && leads_away {
            debug!(%name, %target, "a QUIC connection is to begin anew, another way");
        }
        // If the kernel does not send it elsewhere the second time, then for a reason.
        !(news && leads_away)
    }

    /// Has the kernel know that the address is that of the name. `true` if that is news.
    fn note(&self, rules: &[Sniffed], name: &str, address: IpAddr) -> bool {
        let mut news = false;
        for sniffed in rules.iter().filter(|s| s.rule.domains.iter().any(|d| d.covers(name))) {
            let rule = sniffed.rule.name.clone();
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.len() >= MOST_NOTED {
                noted.clear();
            }
            if noted.insert((rule.clone(), address)) {
                news = true;
                tokio::spawn(boxed(async move {
                    if let Err(error) = note_address(&rule, address).await {
                        debug!(%error, rule, "an address could not be noted");
                    }
                }));
            }
        }
        news
    }
}

impl Sniffed {
    fn fits(&self, name: &str, host: &Neighbour, from: IpAddr, target: SocketAddr) -> bool {
        let rule = &self.rule;
        self.fits_target(name, target, TCP)
            && (rule.sources.is_empty() || rule.sources.iter().any(|net| net.contains(from)))
            && (rule.macs.is_empty()
                || host
                    .mac
                    .as_ref()
                    .is_some_and(|mac| rule.macs.iter().any(|own| own.to_string() == *mac)))
            && (rule.lan.is_empty()
                || host.device.as_ref().is_some_and(|device| self.devices.contains(device)))
    }

    /// Whether all fits that it says of where connections go.
    fn fits_target(&self, name: &str, target: SocketAddr, protocol: u8) -> bool {
        let rule = &self.rule;
        let any = |empty: bool, fits: bool| empty || fits;
        let protocols = rule.protocol_numbers();
        let port = target.port();
        any(rule.domains.is_empty(), rule.domains.iter().any(|domain| domain.covers(name)))
            && any(
                rule.destinations.is_empty(),
                rule.destinations.iter().any(|net| net.contains(target.ip())),
            )
            && any(protocols.is_empty(), protocols.contains(&protocol))
            && any(
                rule.ports.is_empty(),
                rule.ports.iter().any(|ports| (ports.first..=ports.last).contains(&port)),
            )
    }

    /// Of several WANs, a target has always the same.
    fn way_to(&self, target: SocketAddr) -> Way {
        let Way::From(all) = &self.way else { return self.way.clone() };
        let of_family: Vec<IpAddr> =
            all.iter().copied().filter(|ip| ip.is_ipv4() == target.is_ipv4()).collect();
        if of_family.is_empty() {
            return match self.rule.fallback {
                super::Fallback::Bond => Way::Usual,
                super::Fallback::None => Way::Nowhere,
            };
        }
        let sum: usize = match target.ip() {
            IpAddr::V4(v4) => v4.octets().iter().map(|b| usize::from(*b)).sum(),
            IpAddr::V6(v6) => v6.octets().iter().map(|b| usize::from(*b)).sum(),
        };
        Way::From(vec![of_family[sum % of_family.len()]])
    }
}

/// A host of the LAN, as far as the kernel's neighbours tell (of IPv4 only: the others' first
/// connections are bonded where a rule asks for device or hardware address).
struct Neighbour {
    mac: Option<String>,
    device: Option<String>,
}

impl Neighbour {
    fn find(ip: IpAddr) -> Self {
        let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
        Self::of(&table, ip)
    }

    fn of(table: &str, ip: IpAddr) -> Self {
        let ip = ip.to_string();
        let columns = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|columns| columns.first() == Some(&ip.as_str()));
        let column = |at: usize| Some((*columns.as_ref()?.get(at)?).to_ascii_lowercase());
        Self { mac: column(3), device: column(5) }
    }
}

/// The name in the first bytes, which stay to be read.
async fn name_of(client: &TcpStream) -> Option<String> {
    let until = Instant::now() + WAIT;
    let mut bytes = [0; 4096];
    let mut before = 0;
    loop {
        let length = timeout_at(until, client.peek(&mut bytes)).await.ok()?.ok()?;
        match of_stream(&bytes[..length]) {
            Look::Name(name) => return Some(name),
            Look::Nothing => return None,
            Look::More if length == 0 || length == bytes.len() => return None,
            Look::More if length == before && Instant::now() + AGAIN >= until => return None,
            Look::More => before = length,
        }
        sleep(AGAIN).await;
    }
}

/// Connects to the target over the WAN that has this address, and passes bytes on until both ends are
/// done. The client comes back if there is no connection.
pub(crate) async fn carry(
    mut client: TcpStream,
    source: IpAddr,
    target: SocketAddr,
) -> Result<(), (TcpStream, io::Error)> {
    let connect = async {
        let socket = match target {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(source, 0))?;
        let stream = timeout(CONNECT, socket.connect(target)).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut far = match connect.await {
        Ok(far) => far,
        Err(error) => return Err((client, error)),
    };
    match tokio::io::copy_bidirectional(&mut client, &mut far).await {
        Ok(_) => {
            // What was not sent yet is still to be sent.
            let _ = SockRef::from(&client).set_linger(None);
            Ok(())
        }
        // What ended with a reset ends with one.
        Err(error) => Err((client, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn sniffed(text: &str, way: Way) -> Sniffed {
        let text = format!(
            "config wanbond 'g'\n\toption enabled '0'\n\tlist lan 'guest'\nconfig bypass 'x'\n\toption to 'direct'\n{text}"
        );
        let rule = config::parse("f", text.as_bytes()).unwrap().config.bypass.remove(0);
        Sniffed { rule, devices: vec!["br-guest".into()], way }
    }

    #[test]
    fn all_that_a_rule_says_must_fit() {
        let table = "IP address HW type Flags HW address Mask Device\n\
                     192.168.1.7 0x1 0x2 02:AA:00:00:00:07 * br-guest\n";
        let from: IpAddr = "192.168.1.7".parse().unwrap();
        let host = Neighbour::of(table, from);
        let target: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let fits = |text: &str| sniffed(text, Way::Usual).fits("www.a.test", &host, from, target);
        for text in [
            "\toption domain 'a.test'\n",
            "\toption domain 'b.test a.test'\n\toption port '400-450'\n\toption mac '02:aa:00:00:00:07'\n",
            "\toption domain 'a.test'\n\toption lan_device 'guest'\n\toption source '192.168.1.0/24'\n",
            "\toption protocol 'tcp'\n",
        ] {
            assert!(fits(text), "{text}");
        }
        for text in [
            "\toption domain 'b.test'\n",
            "\toption domain 'a.test'\n\toption port '80'\n",
            "\toption domain 'a.test'\n\toption protocol 'udp'\n",
            "\toption domain 'a.test'\n\toption mac '02:aa:00:00:00:08'\n",
            "\toption domain 'a.test'\n\toption source '192.168.2.0/24'\n",
            "\toption destination '192.0.3.0/24'\n",
        ] {
            assert!(!fits(text), "{text}");
        }
        let unknown = Neighbour::of("", from);
        assert!(unknown.mac.is_none() && unknown.device.is_none());
    }

    #[test]
    fn a_target_always_has_the_same_wan() {
        let sources: Vec<IpAddr> =
            ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec();
        let rule = sniffed("\toption domain 'a.test'\n", Way::From(sources.clone()));
        let way = |text: &str| rule.way_to(text.parse().unwrap());
        assert_eq!(way("198.51.100.1:443"), way("198.51.100.1:80"));
        assert_ne!(way("198.51.100.1:443"), way("198.51.100.2:443"));
        assert_eq!(way("[2001:db8::9]:443"), Way::From(vec![sources[2]]));
        let only = sniffed("\toption domain 'a.test'\n", Way::From(sources[..1].to_vec()));
        assert_eq!(only.way_to("[2001:db8::9]:443".parse().unwrap()), Way::Usual);
    }
}
