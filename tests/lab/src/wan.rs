//! A WAN of a running lab: what a test does to it.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::emulator::{Direction, Filter, LinkId, LinkReport, Shape};
use crate::error::LabError;
use crate::lab::Lab;
use crate::netem::{self, Netem};
use crate::ns::Namespace;
use crate::scenario::{ShapeChange, WanSpec};
use crate::topology::WanNet;
use crate::tun::{self, Tun};

/// What a lab keeps per WAN.
#[derive(Debug)]
pub(crate) struct WanState {
    pub(crate) spec: WanSpec,
    /// Of its default routes.
    pub(crate) metric: u32,
    pub(crate) isp: Namespace,
    pub(crate) link: Link,
    pub(crate) net: Mutex<WanNet>,
    /// What the router calls its device now.
    pub(crate) device: Mutex<String>,
}

/// What is between a router and its ISP.
#[derive(Debug)]
pub(crate) enum Link {
    /// The lab's own emulator.
    Emulated(LinkId),
    /// The kernel's.
    Netem(Box<Netem>),
    /// Nothing.
    Veth,
}

impl WanState {
    pub(crate) fn net(&self) -> MutexGuard<'_, WanNet> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn device(&self) -> MutexGuard<'_, String> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A WAN of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Wan<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) state: &'a WanState,
}

/// How long a device that was pulled may linger.
const DEVICE_GONE: Duration = Duration::from_secs(15);

/// The metric of a default route that goes before all others; see [`Wan::prefer`].
const PREFERRED: u32 = 1;

impl Wan<'_> {
    /// Its name, which is also that of the router's device, unless [`Wan::plug_as`] has changed that.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.spec.name
    }

    /// What the router calls its device now.
    #[must_use]
    pub fn device(&self) -> String {
        self.state.device().clone()
    }

    /// As the scenario describes it.
    #[must_use]
    pub const fn spec(&self) -> &WanSpec {
        &self.state.spec
    }

    /// Its addresses at the moment.
    #[must_use]
    pub fn net(&self) -> WanNet {
        *self.state.net()
    }

    /// The ISP's namespace.
    #[must_use]
    pub const fn isp(&self) -> &Namespace {
        &self.state.isp
    }

    /// Cuts the line: nothing comes through and nobody is told.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn cut(&self) -> Result<(), LabError> {
        self.set_cut(true)
    }

    /// Mends the line.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn restore(&self) -> Result<(), LabError> {
        self.set_cut(false)
    }

    fn set_cut(&self, cut: bool) -> Result<(), LabError> {
        match &self.state.link {
            Link::Netem(netem) => netem.set_cut(cut),
            _ => Ok(self.lab.emulator().set_cut(self.emulated()?, cut)?),
        }
    }

    /// Sets one direction anew.
    ///
    /// # Errors
    /// On a plain veth, or when netem can't do that.
    pub fn set(&self, direction: Direction, shape: Shape) -> Result<(), LabError> {
        if let Link::Netem(link) = &self.state.link {
            return match netem::beyond(&shape) {
                Some(what) => Err(LabError::Link(format!("{}: {what}", self.name()))),
                None => link.set(direction, shape),
            };
        }
        Ok(self.lab.emulator().set(self.emulated()?, direction, shape)?)
    }

    /// Changes some of one direction.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn change(&self, direction: Direction, change: &ShapeChange) -> Result<(), LabError> {
        let shape = match &self.state.link {
            Link::Netem(netem) => netem.shape(direction),
            _ => self.lab.emulator().shape(self.emulated()?, direction)?,
        };
        self.set(direction, change.apply(shape))
    }

    /// Sets what the ISP does to packets.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn set_filter(&self, filter: Filter) -> Result<(), LabError> {
        Ok(self.lab.emulator().set_filter(self.emulated()?, filter)?)
    }

    /// What went through so far. Of a link that is not the emulator's, only packets' bytes, with
    /// their Ethernet headers, from the devices at its ends.
    ///
    /// # Errors
    /// When the lab is going down.
    pub fn counters(&self) -> Result<LinkReport, LabError> {
        let cut = match &self.state.link {
            Link::Emulated(link) => return Ok(self.lab.emulator().report(*link)?),
            Link::Netem(netem) => netem.is_cut(),
            Link::Veth => false,
        };
        let (up_out, down_in) = self.state.isp.device_bytes(crate::topology::LINE)?;
        let (down_out, up_in) = self.router().device_bytes(&self.device())?;
        let count = |bytes_in, bytes_out| crate::emulator::Counters {
            bytes_in,
            bytes_out,
            ..Default::default()
        };
        Ok(LinkReport {
            name: self.name().into(),
            cut,
            down: count(down_in, down_out),
            up: count(up_in, up_out),
            lateness: Default::default(),
        })
    }

    /// Sends the router's own and unbonded traffic over this WAN first, for measuring a line by
    /// itself. Undo with [`Wan::unprefer`]; not while the router's daemon runs.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn prefer(&self) -> Result<(), LabError> {
        let lines = self.net().default_route_lines(&self.device(), "replace", PREFERRED);
        Ok(self.router().ip(&lines)?)
    }

    /// Undoes [`Wan::prefer`].
    ///
    /// # Errors
    /// When it was not preferred.
    pub fn unprefer(&self) -> Result<(), LabError> {
        let lines = self.net().default_route_lines(&self.device(), "del", PREFERRED);
        Ok(self.router().ip(&lines)?)
    }

    /// Gives the router another address on this WAN, as a new lease does.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn readdress(&self) -> Result<(), LabError> {
        let mut net = self.state.net();
        let old = *net;
        net.next_host();
        let device = &self.device();
        // With the old address its routes through the gateway may go, too: set them again.
        let lines = old.router_address_lines(device, "del")
            + &net.router_address_lines(device, "add")
            + &net.default_route_lines(device, "replace", self.state.metric);
        Ok(self.router().ip(&lines)?)
    }

    /// Gives the ISP's side another address, and the router its new default route.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn regateway(&self) -> Result<(), LabError> {
        let mut net = self.state.net();
        let old = *net;
        net.gateway = if net.gateway == 1 { 254 } else { 1 };
        self.state
            .isp
            .ip(&(old.gateway_address_lines("del") + &net.gateway_address_lines("add")))?;
        let metric = self.state.metric;
        let lines = old.default_route_lines(&self.device(), "del", metric)
            + &net.default_route_lines(&self.device(), "add", metric);
        Ok(self.router().ip(&lines)?)
    }

    /// Pulls the WAN's device out of the router, as a USB modem is pulled.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn unplug(&self) -> Result<(), LabError> {
        Ok(self.lab.emulator().unplug(self.emulated()?)?)
    }

    /// Plugs the device in again, with its addresses and routes as before.
    ///
    /// # Errors
    /// On a plain veth, or when it is plugged in already.
    pub fn plug(&self) -> Result<(), LabError> {
        self.plug_as(&self.device())
    }

    /// Plugs it in again, and the router calls its device otherwise.
    ///
    /// # Errors
    /// On a plain veth, or when it is plugged in already.
    pub fn plug_as(&self, device: &str) -> Result<(), LabError> {
        let link = self.emulated()?;
        let tun = open_tun(self.router(), device)?;
        device.clone_into(&mut self.state.device());
        self.lab.emulator().replug(link, tun)?;
        Ok(self.router().ip(&self.net().router_lines(
            device,
            self.state.spec.mtu,
            self.state.metric,
        ))?)
    }

    /// Dials in again, as PPPoE does: the device goes, and comes back as a point-to-point link with
    /// another address.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn redial(&self) -> Result<(), LabError> {
        if self.router().device_bytes(&self.device()).is_ok() {
            self.unplug()?;
        }
        {
            let mut net = self.state.net();
            net.point_to_point = true;
            net.next_host();
        }
        self.plug()
    }

    /// Takes the router's IPv4 address and default route on this WAN, or gives them back.
    ///
    /// # Errors
    /// When it is as wanted already, or the device is gone.
    pub fn set_ipv4(&self, there: bool) -> Result<(), LabError> {
        self.set_families(|net| net.has_ipv4 = there)
    }

    /// Takes the router's IPv6 address and default route on this WAN, or gives them back.
    ///
    /// # Errors
    /// When it is as wanted already, or the device is gone.
    pub fn set_ipv6(&self, there: bool) -> Result<(), LabError> {
        self.set_families(|net| net.has_ipv6 = there)
    }

    fn set_families(&self, change: impl FnOnce(&mut WanNet)) -> Result<(), LabError> {
        let mut net = self.state.net();
        let old = *net;
        change(&mut net);
        let lost = WanNet {
            has_ipv4: old.has_ipv4 && !net.has_ipv4,
            has_ipv6: old.has_ipv6 && !net.has_ipv6,
            ..old
        };
        let won = WanNet {
            has_ipv4: net.has_ipv4 && !old.has_ipv4,
            has_ipv6: net.has_ipv6 && !old.has_ipv6,
            ..*net
        };
        let (device, metric) = (&self.device(), self.state.metric);
        // IPv4's routes go with the address that they prefer, and by themselves with the last.
        let lines = lost.default_route_lines(device, "del", metric)
            + &lost.router_address_lines(device, "del")
            + &won.router_address_lines(device, "add")
            + &won.default_route_lines(device, "add", metric);
        Ok(self.router().ip(&lines)?)
    }

    /// Puts the line back to what the scenario made it: device, addresses, both families, not cut.
    ///
    /// # Errors
    /// On a plain veth.
    pub fn as_built(&self) -> Result<(), LabError> {
        if self.router().device_bytes(&self.device()).is_ok() {
            self.unplug()?;
        }
        {
            let mut net = self.state.net();
            let old = *net;
            *net = WanNet::new(net.number, self.state.spec.ipv6);
            if net.gateway != old.gateway {
                let lines = old.gateway_address_lines("del") + &net.gateway_address_lines("add");
                self.state.isp.ip(&lines)?;
            }
        }
        self.plug_as(self.name())?;
        self.restore()
    }

    fn router(&self) -> &Namespace {
        self.lab.router(self.state.spec.router).ns()
    }

    fn emulated(&self) -> Result<LinkId, LabError> {
        match self.state.link {
            Link::Emulated(link) => Ok(link),
            _ => {
                Err(LabError::Link(format!("{} is not a link of the lab's emulator", self.name())))
            }
        }
    }
}

/// A new TUN device in a namespace; it goes when the handle does.
pub(crate) fn open_tun(ns: &Namespace, name: &str) -> Result<Tun, LabError> {
    let open = || tun::open(name);
    let fail = |source| LabError::Tun { name: name.into(), source };
    let start = Instant::now();
    loop {
        match ns.run(open) {
            // The kernel takes its time to let go of a device that sockets have used, and a
            // process that was being started at that moment may hold it for a blink.
            Err(error)
                if error.kind() == ErrorKind::ResourceBusy && start.elapsed() < DEVICE_GONE =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            opened => return opened.map_err(fail),
        }
    }
}
