//! One route-netlink socket for requests and one that listens for changes.

mod message;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::MulticastGroup;
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::{AsyncSocket as _, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use message::{LinkMessage, Message, Object, Verb};

use crate::netstate::concerns_us;
use crate::owned::Owner;

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket to be had.
    #[error("can't open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused a request.
    #[error("can't {what}: {source}")]
    Refused {
        /// The request, as the end of a sentence beginning with "can't".
        what: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The socket broke down in the middle of a request.
    #[error("the netlink socket closed while we wanted to {0}")]
    Closed(String),
}

/// The kernel's view of links, addresses, routes and rules, in the network namespace of the
/// thread that made this. Cheap to clone; the sockets close with the last clone.
#[derive(Clone)]
pub struct Netlink {
    handle: ConnectionHandle<Message>,
    /// What marks the routes and rules that this one puts in place.
    pub(crate) protocol: u8,
    changed: watch::Receiver<u32>,
    _tasks: Arc<[AbortOnDrop; 2]>,
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Netlink {
    /// Opens the sockets for the router daemon.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub async fn new() -> Result<Self, NetlinkError> {
        Self::for_owner(Owner::Router).await
    }

    /// Opens the sockets. What is put into the kernel is marked as `owner`'s.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub async fn for_owner(owner: Owner) -> Result<Self, NetlinkError> {
        Self::marking(owner.route_protocol()).await
    }

    /// As [`Self::for_owner`], for the routes and rules of the tunnel: reconciled apart from those
    /// of the WANs.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub async fn for_tunnel(owner: Owner) -> Result<Self, NetlinkError> {
        Self::marking(owner.tunnel_protocol()).await
    }

    /// As [`Self::for_tunnel`], for the rules of what goes around the bond.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub async fn for_bypass(owner: Owner) -> Result<Self, NetlinkError> {
        Self::marking(owner.bypass_protocol()).await
    }

    #[allow(clippy::unused_async, reason = "needs a runtime to put its sockets on")]
    async fn marking(protocol: u8) -> Result<Self, NetlinkError> {
        let (connection, handle, _) = new_connection(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        // The first listener is made here, so that no change after this call goes unseen.
        let events = listen().map_err(NetlinkError::Open)?;
        let (sender, changed) = watch::channel(0);
        let tasks =
            [AbortOnDrop::spawn(connection), AbortOnDrop::spawn(forward_changes(events, sender))];
        Ok(Self { handle, protocol, changed, _tasks: Arc::new(tasks) })
    }

    /// Tells of changes to links, addresses, routes and rules from now on.
    #[must_use]
    pub fn changes(&self) -> ChangeStream {
        let mut changed = self.changed.clone();
        changed.mark_unchanged();
        ChangeStream { changed, over_at: None }
    }

    /// Runs a dump and hands every object to `each`.
    pub(crate) async fn dump(
        &self,
        what: &'static str,
        object: Object,
        mut each: impl FnMut(Object) + Send,
    ) -> Result<(), NetlinkError> {
        let mut message = NetlinkMessage::from(Message::get(object));
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        self.run(&|| format!("list the {what}"), message, &mut each).await
    }

    /// Runs a request that is only acknowledged.
    pub(crate) async fn command(
        &self,
        what: impl Fn() -> String + Sync,
        request: Message,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.run(&what, message, &mut |_| {}).await
    }

    /// By reference to traits, as each caller would have a copy of this of its own.
    async fn run(
        &self,
        what: &(dyn Fn() -> String + Sync),
        message: NetlinkMessage<Message>,
        each: &mut (dyn FnMut(Object) + Send),
    ) -> Result<(), NetlinkError> {
        let mut answers = self
            .handle
            .request(message, SocketAddr::new(0, 0))
            .map_err(|_| NetlinkError::Closed(what()))?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => each(message.object),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Refused { what: what(), source: error.to_io() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Resolves after changes to links, addresses, routes or rules.
///
/// Bursts are coalesced: a link going down takes addresses and routes with it, and whoever
/// listens wants to look once. Routes and rules that we add ourselves are not told.
#[derive(Debug, Clone)]
pub struct ChangeStream {
    changed: watch::Receiver<u32>,
    /// A burst has begun, and is taken to be over then.
    over_at: Option<Instant>,
}

/// How long to wait for the rest of a burst. Far below what detecting a dead WAN takes, and far
/// above what the kernel needs to send the consequences of one change.
const COALESCE: Duration = Duration::from_millis(20);

impl ChangeStream {
    /// Waits for the next burst of changes to be over. Changes since the last call count.
    ///
    /// Never resolves again once every [`Netlink`] it came from is gone. Dropped before it has
    /// resolved, it loses nothing.
    pub async fn next(&mut self) {
        let over_at = match self.over_at {
            Some(over_at) => over_at,
            None => {
                if self.changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                *self.over_at.insert(Instant::now() + COALESCE)
            }
        };
        tokio::time::sleep_until(over_at).await;
        self.over_at = None;
        self.changed.mark_unchanged();
    }
}

type Events = futures_util::stream::BoxStream<'static, NetlinkMessage<Message>>;

/// What to be told of.
const LISTENED_TO: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];

/// Opens a socket that listens. The stream ends when the socket breaks down.
fn listen() -> io::Result<Events> {
    let (mut connection, handle, events) = new_connection(NETLINK_ROUTE)?;
    let groups = LISTENED_TO.into_iter().fold(0, |bits, group| bits | 1 << (group as u32 - 1));
    connection.socket_mut().socket_mut().bind(&SocketAddr::new(0, groups))?;
    let task = AbortOnDrop::spawn(connection);
    Ok(events
        .map(move |(message, _)| {
            // The connection stops once its handle is gone, and lives as long as this stream.
            let _ = (&handle, &task);
            message
        })
        .boxed())
}

async fn forward_changes(mut events: Events, sender: watch::Sender<u32>) {
    loop {
        while let Some(event) = events.next().await {
            let relevant = match &event.payload {
                NetlinkPayload::InnerMessage(message) => concerns_us(message),
                // An overrun of the socket's buffer: something was missed.
                _ => true,
            };
            if relevant {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
        tracing::debug!("the netlink socket for changes closed, opening another");
        events = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match listen() {
                Ok(events) => break events,
                Err(error) => tracing::warn!(%error, "can't listen for network changes"),
            }
        };
        sender.send_modify(|count| *count = count.wrapping_add(1));
    }
}
