//! Keeps the tunnel to the server: its device, its driver, its paths, and what stands around it in
//! the kernel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};
use wanbond_control::words::{Role, ServerState, WhenServerDown};
use wanbond_linux::firewall::Names;
use wanbond_linux::netstate::NetlinkError;
use wanbond_linux::owned::Journal;
use wanbond_linux::tun::TunQueue;
use wanbond_proto::datagram::{MAX_PATHS, PathId};
use wanbond_proto::handshake::Egress;
use wanbond_proto::inner::Instance;
use wanbond_proto::session;
use wanbond_proto::tunnel::{Standing, TunnelConfig, TunnelEvent};
use wanbond_proto::wan::State;
use wanbond_relay::tunnel::device::{self, read_packets, write_packets};
use wanbond_relay::tunnel::{PathEnd, PathSocket, TUN_MTU, TunnelDriver, TunnelSink};

use super::tun_kernel::{TunnelKernel, TunnelUp, plan};
use crate::bypass::name_servers;
use crate::config::Globals;
use crate::link;
use crate::shared::{Shared, WanEvidence, WanView};
use crate::wan::duty::Duty;

/// Puts what came through the tunnel into the device, and tells of the tunnel's paths.
struct DeviceSink {
    device: Option<Arc<TunQueue>>,
    evidence: mpsc::Sender<WanEvidence>,
}

impl TunnelSink for DeviceSink {
    fn deliver(&self, packets: &[Vec<u8>]) {
        if let Some(device) = &self.device {
            write_packets(device, packets.iter().map(Vec::as_slice));
        }
    }

    fn noticed(&self, event: TunnelEvent) {
        let TunnelEvent::Path(path, liveness) = event;
        // One of many kinds of evidence: pings tell the same a little later.
        let _ = self.evidence.try_send(WanEvidence::Tunnel { path, liveness });
    }
}

/// How long TCP connections in the tunnel wait for a server that does not answer. Until then a
/// connection goes on as if nothing had been; afterwards its packets go their usual way, where
/// they meet a reset, so that the application can begin anew.
const TCP_WAITS: Duration = Duration::from_secs(60);

/// While there is no session.
const NO_EGRESS: Egress = Egress { ipv4: false, ipv6: false };

struct Device {
    queue: Arc<TunQueue>,
    reader: AbortHandle,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The tunnel, as the daemon keeps it.
pub(super) struct TunnelKeeper {
    kernel: TunnelKernel,
    device: Option<Device>,
    /// Told once.
    complained: bool,
    server: Option<Instance>,
    /// The server has not answered since then.
    silent_since: Option<Instant>,
}

impl TunnelKeeper {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub(super) async fn new(journal: Journal) -> Result<Self, NetlinkError> {
        Ok(Self {
            kernel: TunnelKernel::new(journal).await?,
            device: None,
            complained: false,
            server: None,
            silent_since: None,
        })
    }

    /// Makes tunnel and kernel what they should be now. `false` if something failed and is to be
    /// tried again.
    pub(super) async fn update(
        &mut self,
        shared: &Arc<Shared>,
        globals: &Globals,
        lan: &[String],
        wans: Vec<String>,
    ) -> bool {
        self.follow_session(shared);
        if let Some(driver) = shared.tunnel() {
            let wans = Arc::clone(&shared.wans.borrow());
            let any_up = wans.iter().any(|wan| wan.state == State::Up);
            for id in (0..MAX_PATHS as u8).filter_map(PathId::new) {
                match wans.iter().find(|wan| wan.path == id) {
                    // Where a WAN has to show first that it lives, the tunnel waits too, unless
                    // there is nothing else.
                    Some(wan) => {
                        let held = any_up && wan.state == State::Down;
                        follow_wan(shared, &driver, wan, held || wan.spared);
                    }
                    None => driver.path_lost(id),
                }
            }
        }
        let session = shared.sessions.current();
        let about = session.as_ref().map(|session| session.with(|s| (s.inner(), s.egress())));
        let connected = shared.standing().state == ServerState::Connected;
        let up = match about {
            Some((Some(inner), _)) if self.device.is_some() => {
                let forwards = shared.forwards.borrow().list.clone();
                Some(TunnelUp { inner, mtu: TUN_MTU, forwards, silent: false })
            }
            _ => None,
        };
        let direct = globals.when_server_down == WhenServerDown::Direct;
        let up = match up {
            Some(up) if direct && !connected => {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                (since.elapsed() < TCP_WAITS).then_some(TunnelUp { silent: true, ..up })
            }
            up => {
                self.silent_since = None;
                up
            }
        };
        let server: Vec<IpAddr> = shared.server.borrow().0.iter().map(|a| a.ip()).collect();
        let egress = about.map(|(_, egress)| egress).unwrap_or(NO_EGRESS);
        let names = Names {
            wans,
            of_wans: name_servers::of_wans(&globals.wan_dns),
            ask_server: *shared.names_answered.borrow(),
        };
        let plan = plan(globals, lan, &server, egress, names, up.as_ref());
        self.kernel.apply(plan.as_ref()).await
    }

    /// When [`Self::update`] is to be called again though nothing has happened.
    pub(super) fn update_at(&self) -> Option<Instant> {
        self.silent_since.map(|since| since + TCP_WAITS).filter(|at| *at > Instant::now())
    }

    /// A tunnel for the session: the old one goes on as long as the server's run is the same.
    fn follow_session(&mut self, shared: &Arc<Shared>) {
        let Some(session) = shared.sessions.current() else { return };
        let (server, inner) = session.with(|s| (s.peer_instance(), s.inner()));
        if inner.is_some() {
            self.open_device(shared);
        }
        let driver = match shared.tunnel() {
            Some(driver) if self.server == Some(server) => driver,
            old => {
                if old.is_some() {
                    info!("the server has started anew: so does the tunnel");
                }
                self.server = Some(server);
                let sink = DeviceSink {
                    device: self.device.as_ref().map(|d| Arc::clone(&d.queue)),
                    evidence: shared.evidence.clone(),
                };
                let config = TunnelConfig::small(u64::from_ne_bytes(link::random()));
                let role = session::Role::Router;
                let driver = TunnelDriver::start(role, shared.clock, &config, Box::new(sink));
                shared.set_tunnel(Some(Arc::clone(&driver)));
                driver
            }
        };
        driver.use_session(session.tunnel());
    }

    fn open_device(&mut self, shared: &Arc<Shared>) {
        if self.device.is_some() {
            return;
        }
        match device::open() {
            Ok(queue) => {
                let (shared, reading) = (Arc::clone(shared), Arc::clone(&queue));
                let reader = tokio::spawn(boxed(async move {
                    read_packets(&reading, |packets| {
                        if let Some(driver) = shared.tunnel() {
                            let admitted =
                                packets.iter().filter(|packet| shared.sniffer.admits(packet));
                            driver.handle_packets(admitted);
                        }
                    })
                    .await;
                }))
                .abort_handle();
                self.device = Some(Device { queue, reader });
            }
            Err(error) if !self.complained => {
                self.complained = true;
                warn!(%error, "no tunnel device: only redirected TCP is bonded");
            }
            Err(_) => {}
        }
    }
}

/// Lets the tunnel use a WAN as it is now; `held`: not yet.
fn follow_wan(shared: &Shared, driver: &TunnelDriver, wan: &WanView, held: bool) {
    let server = shared.server.borrow();
    let way = wan.sockets.iter().find_map(|s| Some((&s.udp, server.reachable_from(s.source)?)));
    match way {
        Some((udp, destination)) if wan.role != Role::Off => {
            let end = match &wan.carrier {
                Some(tcp) => PathEnd::Tcp(Arc::clone(tcp)),
                None => PathEnd::Udp(Arc::clone(udp)),
            };
            let socket = PathSocket { end, destination, source: None };
            driver.set_path(wan.path, socket, wan.mtu);
            let standing = match wan.duty {
                _ if held => Standing::Off,
                Duty::Active => Standing::Bond,
                Duty::Standby => Standing::Spare,
                Duty::Off => Standing::Off,
            };
            driver.set_standing(wan.path, standing);
        }
        _ => driver.path_lost(wan.path),
    }
}
