//! A session: what a handshake leaves both ends with.
//!
//! It serves every path and every TCP flow. From its secret come the keys of each flow's lane
//! records (by a flow id that is never reused) and of the tunnel's datagrams. A flow keeps the
//! keys it was opened with, so renewing the session disturbs nothing.

use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroize as _;

use crate::Time;
use crate::crypto::aead::{Sequence, Suite};
use crate::crypto::kdf;
use crate::datagram::{DatagramKeys, TunnelOpener, TunnelSealer, tunnel_keys};
use crate::handshake::{Egress, Welcome};
use crate::inner::{Inner, Instance};
use crate::keys::PublicKey;
use crate::lane::FlowKeys;

/// The router makes a new session when the present one is this old.
pub const RENEW_AFTER: Duration = Duration::from_secs(600);
/// Neither end uses a session that is this old: the bound on what a stolen key can open. Twice the
/// renewal's age, so that an hour-long outage costs one handshake and a short one none.
pub const EXPIRE_AFTER: Duration = Duration::from_secs(1200);
/// How long a session is still good for opens after a newer one was confirmed: longer than any
/// open stays on its way.
pub const GRACE: Duration = Duration::from_secs(30);
/// The router renews after this many flows; the limit of what any counter here could take is far
/// away.
pub const RENEW_AFTER_FLOWS: u64 = 1 << 32;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens flows; opened the handshake.
    Router,
    /// Answers.
    Server,
}

/// Names a TCP flow within its session; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

/// The server's own random contribution to the keys of flows on one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Freshness(pub [u8; 16]);

/// One end of a session.
pub struct Session {
    role: Role,
    created: Time,
    local_index: u32,
    remote_index: u32,
    suite: Suite,
    peer: PublicKey,
    observed: Option<SocketAddr>,
    peer_instance: Instance,
    welcome: Welcome,
    lane_secret: [u8; 32],
    datagram_secret: [u8; 32],
    tunnel_secret: [u8; 32],
    next_flow: u64,
}

impl Session {
    #[expect(clippy::too_many_arguments, reason = "called by the two halves of the handshake only")]
    pub(crate) fn new(
        role: Role,
        now: Time,
        local_index: u32,
        remote_index: u32,
        suite: Suite,
        peer: PublicKey,
        observed: Option<SocketAddr>,
        peer_instance: Instance,
        welcome: Welcome,
        split: &([u8; 32], [u8; 32]),
        hash: &[u8],
    ) -> Self {
        let mut secret = [0; 64];
        secret[..32].copy_from_slice(&split.0);
        secret[32..].copy_from_slice(&split.1);
        let prk = kdf::extract(hash, &secret);
        secret.zeroize();
        Self {
            role,
            created: now,
            local_index,
            remote_index,
            suite,
            peer,
            observed,
            peer_instance,
            welcome,
            lane_secret: kdf::expand_key(&prk, b"wanbond1 lanes"),
            datagram_secret: kdf::expand_key(&prk, b"wanbond1 datagrams"),
            tunnel_secret: kdf::expand_key(&prk, b"wanbond1 tunnel"),
            next_flow: 0,
        }
    }

    /// The index by which this end names the session.
    #[must_use]
    pub const fn local_index(&self) -> u32 {
        self.local_index
    }

    /// The index by which the other end names the session: what is put on the wire.
    #[must_use]
    pub const fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// The agreed encryption.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The other end's public key.
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// The router's address as the server saw it in the handshake.
    #[must_use]
    pub const fn observed(&self) -> Option<SocketAddr> {
        self.observed
    }

    /// What the server can reach.
    #[must_use]
    pub const fn egress(&self) -> Egress {
        self.welcome.egress
    }

    /// Which run of the other end's daemon made this session. What goes beyond a session, such as
    /// a tunnel's numbers, goes on with the next one only if this stays the same.
    #[must_use]
    pub const fn peer_instance(&self) -> Instance {
        self.peer_instance
    }

    /// The addresses inside the tunnel; both ends know the same. `None` if the server has none
    /// for this router: then no packets go through.
    #[must_use]
    pub const fn inner(&self) -> Option<Inner> {
        self.welcome.inner
    }

    /// When the handshake was done.
    #[must_use]
    pub const fn created(&self) -> Time {
        self.created
    }

    /// Whether the router should make a new session.
    #[must_use]
    pub fn is_due_for_renewal(&self, now: Time) -> bool {
        now.since(self.created) >= RENEW_AFTER || self.next_flow >= RENEW_AFTER_FLOWS
    }

    /// Whether the session may no longer be used for anything new.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        now.since(self.created) >= EXPIRE_AFTER
    }

    /// A flow id that no flow of this session has had.
    pub fn next_flow_id(&mut self) -> FlowId {
        let id = FlowId(self.next_flow);
        self.next_flow += 1;
        id
    }

    /// The keys of a flow's two directions, from this end's point of view.
    #[must_use]
    pub fn flow_keys(&self, flow: FlowId, freshness: Option<Freshness>) -> FlowKeys {
        let prk = kdf::prk(&self.lane_secret);
        let id = flow.0.to_be_bytes();
        let fresh = freshness.map_or([0; 16], |f| f.0);
        let marker = [u8::from(freshness.is_some())];
        let derive = |direction: &[u8]| {
            Sequence::derive(self.suite, &prk, &[b"flow", direction, &id, &marker, &fresh])
        };
        let (up, down) = (derive(b"up"), derive(b"down"));
        match self.role {
            Role::Router => FlowKeys { seal: up, open: down },
            Role::Server => FlowKeys { seal: down, open: up },
        }
    }

    /// The keys of the session's datagrams, from this end's point of view.
    #[must_use]
    pub fn datagram_keys(&self) -> DatagramKeys {
        DatagramKeys::derive(self.role, self.suite, self.remote_index, &self.datagram_secret)
    }

    /// Seals and opens the tunnel's datagrams. To be called once per session, as the sealer counts.
    #[must_use]
    pub fn tunnel_keys(&self) -> (TunnelSealer, TunnelOpener) {
        tunnel_keys(self.role, self.suite, self.remote_index, &self.tunnel_secret)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.lane_secret.zeroize();
        self.datagram_secret.zeroize();
        self.tunnel_secret.zeroize();
    }
}
