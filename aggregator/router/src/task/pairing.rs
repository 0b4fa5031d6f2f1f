//! Whether a pairing code works, and over which WANs: asked of the server itself, before anything is
//! written.
//!
//! Over every WAN a handshake is made by UDP, and one by TCP on an MPTCP connection, all at once and
//! bound to the WAN's device, so that it works without any of our routes. The sessions that come of it are
//! never used, so the server keeps what it has: a router that is connected stays so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::time::{Instant, timeout};
use wanbond_control::Work;
use wanbond_control::pairing::{PairingReport, PairingWan};
use wanbond_control::units::milliseconds;
use wanbond_control::words::MptcpState;
use wanbond_linux::socket::{ConnectOptions, connect, mptcp_info, mptcp_info_supported};
use wanbond_proto::handshake::{Notice, Reply};
use wanbond_proto::lane::{FrameKind, HEAD_LEN};
use wanbond_proto::pairing::{Endpoint, PairingCode};
use wanbond_relay::{BufferPool, LaneStream};

use super::Progress;
use crate::daemon::Candidate;
use crate::link::{Answer, Prober, ServerAddresses, resolve, taken};

/// How long an answer may take, satellites and a retransmitted SYN included.
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// A SYN is sent again after a second (RFC 6298 §2), after some without MPTCP.
const SYN_SENT_AGAIN: Duration = Duration::from_millis(950);
const RESOLVE_TIME: Duration = Duration::from_secs(8);

/// What a check stands on.
pub(crate) struct Check {
    pub(crate) code: PairingCode,
    pub(crate) candidates: Vec<Candidate>,
    /// The configured server that has this code.
    pub(crate) configured: Option<String>,
    pub(crate) prober: Prober,
    pub(crate) pool: Arc<BufferPool>,
    /// Whether this kernel has MPTCP.
    pub(crate) mptcp: bool,
}

impl Check {
    /// Tries the code over every candidate at once.
    pub(crate) async fn run(self, progress: Progress) -> Result<Work, String> {
        progress.tell(0.1, "looking the server up");
        let endpoints: Vec<String> = self.code.endpoints.iter().map(ToString::to_string).collect();
        let mut report = PairingReport {
            endpoints: endpoints.clone(),
            configured: self.configured.clone(),
            mptcp_supported: self.mptcp,
            ..PairingReport::default()
        };
        let addresses = match timeout(RESOLVE_TIME, resolve(None, &self.code.endpoints)).await {
            Ok(Ok(addresses)) => addresses,
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the name servers do not answer".to_owned(),
                };
                report.why = format!(
                    "the name {} can't be looked up: {why}; look whether DNS works on the router",
                    names(&self.code.endpoints)
                );
                return Ok(Work::Pairing(Some(Box::new(report))));
            }
        };
        report.addresses = addresses.0.iter().map(ToString::to_string).collect();
        if self.candidates.is_empty() {
            report.why = "no network of this router leads to the Internet; connect one first (it needs a default route)".to_owned();
            return Ok(Work::Pairing(Some(Box::new(report))));
        }
        progress.tell(0.3, format!("asking {}", endpoints.join(", ")));
        let total = self.candidates.len();
        let check = Arc::new(self);
        let mut probes = tokio::task::JoinSet::new();
        for (place, candidate) in check.candidates.iter().cloned().enumerate() {
            let (check, addresses) = (Arc::clone(&check), addresses.clone());
            probes.spawn(boxed(async move { (place, check.probe(&candidate, &addresses).await) }));
        }
        let mut wans = Vec::with_capacity(total);
        while let Some(probe) = probes.join_next().await {
            let (place, (wan, refused)) = probe.map_err(|error| error.to_string())?;
            wans.push((place, wan, refused));
            let done = wans.len() as f64 / total as f64;
            progress.tell(0.3 + 0.7 * done, format!("{} of {total} WANs tried", wans.len()));
        }
        wans.sort_by_key(|(place, ..)| *place);
        report.reached = wans.iter().any(|(_, wan, _)| wan.reached);
        if !report.reached {
            let refused = wans.iter().find_map(|(.., refused)| *refused);
            report.why = match refused {
                Some(notice) => notice.to_string(),
                None => format!(
                    "no answer from {}: look whether the server runs there ('wanbond-server status'), whether its firewall and its provider let the port through, TCP and UDP, and whether the code is the latest",
                    endpoints.join(", ")
                ),
            };
        }
        report.wans = wans.into_iter().map(|(_, wan, _)| wan).collect();
        Ok(Work::Pairing(Some(Box::new(report))))
    }

    /// What comes of the code over one WAN, and what the server said if it said no.
    async fn probe(
        &self,
        candidate: &Candidate,
        server: &ServerAddresses,
    ) -> (PairingWan, Option<Notice>) {
        let mut wan = PairingWan {
            name: candidate.name.clone(),
            interface: candidate.interface.clone(),
            configured: candidate.configured,
            role: candidate.role,
            ..PairingWan::default()
        };
        let facts = match &candidate.facts {
            Ok(facts) => facts,
            Err(why) => {
                wan.why.clone_from(why);
                return (wan, None);
            }
        };
        wan.device = Some(facts.device.clone());
        let way = facts.sources().into_iter().find_map(|s| Some((s, server.reachable_from(s)?)));
        let Some((source, address)) = way else {
            let family = if server.0.iter().any(SocketAddr::is_ipv4) { "IPv4" } else { "IPv6" };
            wan.why = format!("it has no {family} address, and the server has nothing else");
            return (wan, None);
        };
        wan.address = Some(source.to_string());
        let (udp, (tcp, mptcp, connected)) = tokio::join!(
            self.prober.ask(Some(&facts.device), source, address, ANSWER_TIME),
            self.over_tcp(&facts.device, source, address)
        );
        wan.mptcp = mptcp;
        let mut rtt = connected;
        if let Answer::Taken { observed, after } = &udp {
            wan.udp = true;
            wan.public_address = observed.map(|address| address.ip().to_string());
            rtt = Some(rtt.map_or(*after, |rtt| rtt.min(*after)));
        }
        if let Answer::Taken { observed, .. } = &tcp {
            wan.tcp = true;
            wan.public_address =
                wan.public_address.or_else(|| observed.map(|address| address.ip().to_string()));
        }
        wan.reached = wan.udp || wan.tcp;
        wan.rtt_ms = rtt.map(|rtt| (rtt.as_secs_f64() * 1e4).round() / 10.0);
        let refused = [&udp, &tcp].into_iter().find_map(|answer| match answer {
            Answer::Refused(notice) => Some(*notice),
            _ => None,
        });
        wan.why = why(&wan, &tcp, refused, address);
        (wan, refused)
    }

    /// The server's answer, what became of MPTCP, and how long connecting took.
    async fn over_tcp(
        &self,
        device: &str,
        source: IpAddr,
        server: SocketAddr,
    ) -> (Answer, MptcpState, Option<Duration>) {
        let start = Instant::now();
        let options = ConnectOptions {
            source: Some(source),
            device: Some(device.to_owned()),
            mptcp: self.mptcp,
            ..ConnectOptions::default()
        };
        let unknown = |answer| (answer, MptcpState::Unknown, None);
        let Ok(Ok(stream)) = timeout(ANSWER_TIME, connect(server, &options)).await else {
            return unknown(Answer::Unreachable);
        };
        let connected = start.elapsed();
        let mptcp = match mptcp_info(&stream) {
            _ if !self.mptcp => MptcpState::Unsupported,
            _ if !mptcp_info_supported() => MptcpState::Unknown,
            Ok(Some(_)) => MptcpState::Working,
            _ if connected >= SYN_SENT_AGAIN => MptcpState::Unknown,
            _ => MptcpState::Stripped,
        };
        let Some(mut handshake) = self.prober.handshake() else { return unknown(Answer::Silent) };
        let mut lane = LaneStream::new(stream, Arc::clone(&self.pool));
        lane.queue_handshake(&handshake.init(self.prober.clock.now()));
        let talk = async {
            lane.flush().await.ok()?;
            let frame = lane.frame().await.ok()?;
            let is_handshake = frame.kind == FrameKind::Handshake;
            let message = lane.frame_bytes(&frame)[HEAD_LEN..].to_vec();
            is_handshake.then(|| handshake.handle(self.prober.clock.now(), &message).ok())?
        };
        let answer = match timeout(ANSWER_TIME, talk).await {
            Ok(Some(Reply::Session(session))) => taken(&session, start.elapsed()),
            Ok(Some(Reply::Notice(notice))) => Answer::Refused(notice),
            _ => Answer::Silent,
        };
        (answer, mptcp, Some(connected))
    }
}

/// One sentence on what came of a WAN; empty while all is well.
fn why(wan: &PairingWan, tcp: &Answer, refused: Option<Notice>, server: SocketAddr) -> String {
    match (wan.udp, wan.tcp) {
        _ if !wan.reached && refused.is_some() => {
            refused.map(|notice| notice.to_string()).unwrap_or_default()
        }
        (true, true) if wan.mptcp == MptcpState::Stripped => format!(
            "something on its way removes MPTCP from connections to port {}: TCP will go through the tunnel",
            server.port()
        ),
        (true, true) => match wan.rtt_ms {
            Some(far) if far >= FAR_MS => {
                format!(
                    "it answers after {}: single connections gain little from it",
                    milliseconds(far)
                )
            }
            _ => String::new(),
        },
        (true, false) => format!(
            "TCP to port {} does not get through, only UDP: connections will go through the tunnel",
            server.port()
        ),
        (false, true) => format!(
            "UDP to port {} does not get through, only TCP: ask the provider, or give the server another port, such as 443",
            server.port()
        ),
        (false, false) if matches!(tcp, Answer::Silent) => format!(
            "something answers at {server}, but not with this code's key: the server was set up anew, another program has its port, or a captive portal stands between"
        ),
        (false, false) => format!(
            "no answer from {server} over it: the line is down further on, a captive portal wants a login, or a firewall stops the port"
        ),
    }
}

/// What is felt as far.
const FAR_MS: f64 = 250.0;

fn names(endpoints: &[Endpoint]) -> String {
    let names: Vec<_> = endpoints.iter().map(|endpoint| endpoint.host.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_wan_is_told_in_words() {
        let server = "192.0.2.1:65101".parse().unwrap();
        let wan = |udp, tcp, mptcp| PairingWan {
            reached: udp || tcp,
            udp,
            tcp,
            mptcp,
            rtt_ms: Some(20.0),
            ..PairingWan::default()
        };
        let works = MptcpState::Working;
        let told = |wan: &PairingWan, tcp: &Answer, refused| why(wan, tcp, refused, server);
        assert_eq!(told(&wan(true, true, works), &Answer::Silent, None), "");
        for (wan, tcp, refused, part) in [
            (wan(true, true, MptcpState::Stripped), Answer::Silent, None, "removes MPTCP"),
            (wan(false, true, works), Answer::Silent, None, "UDP to port 65101"),
            (wan(true, false, works), Answer::Unreachable, None, "TCP to port 65101"),
            (wan(false, false, works), Answer::Silent, None, "not with this code's key"),
            (wan(false, false, works), Answer::Unreachable, None, "captive portal"),
            (
                wan(false, false, works),
                Answer::Silent,
                Some(Notice::UnknownRouter),
                "does not know this router",
            ),
        ] {
            let told = told(&wan, &tcp, refused);
            assert!(told.contains(part), "{told}");
        }
    }
}
