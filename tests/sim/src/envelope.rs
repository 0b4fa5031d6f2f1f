//! What stands between a tunnel and its links: a session's keys and windows, and the knowledge of
//! where a path leads, as the daemons have them.

use std::sync::LazyLock;

use wanbond_proto::Time;
use wanbond_proto::crypto::aead::{Suite, TAG_LEN};
use wanbond_proto::datagram::{MAX_PATHS, PathId, TunnelOpener, TunnelSealer, TunnelWindows};
use wanbond_proto::handshake::{
    Admission, CookieJar, Egress, HandshakeError, Reply, RouterHandshake, RouterIdentity,
    ServerHandshake, Verdict, Welcome,
};
use wanbond_proto::inner::Instance;
use wanbond_proto::keys::SecretKey;
use wanbond_proto::pairing::{PairingCode, RouterSeed};
use wanbond_proto::session::Session;

use crate::net::Side;

/// Where a datagram comes from or goes to. The server's is [`SERVER`]; each link of the router has
/// one of its own.
pub type Address = u32;
/// The server's address.
pub const SERVER: Address = 0;

/// Public-key work is slow, and what is sealed with does not matter to a run: one for all.
static SESSIONS: LazyLock<[Session; 2]> =
    LazyLock::new(|| sessions().expect("fixed keys make a session"));

/// One end's.
pub struct Envelope {
    sealer: TunnelSealer,
    opener: TunnelOpener,
    windows: TunnelWindows,
    /// Where the paths lead to (the server's knowledge).
    known: [Option<Address>; MAX_PATHS],
}

/// A datagram that is genuine and came for the first time.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The path it says it came over.
    pub path: PathId,
    /// Its number there.
    pub number: u64,
    /// None of the path with a higher number has come.
    pub newest: bool,
    /// What it carries.
    pub body: &'a [u8],
}

impl Envelope {
    pub(crate) fn new(side: Side) -> Self {
        let (sealer, opener) = SESSIONS[side.index()].tunnel_keys();
        Self { sealer, opener, windows: TunnelWindows::default(), known: [None; MAX_PATHS] }
    }

    /// Seals the body that stands behind a header's room. `false` for a number that may not be used.
    #[must_use]
    pub fn seal(&mut self, path: PathId, number: u64, datagram: &mut Vec<u8>) -> bool {
        let mut tag = [0; TAG_LEN];
        let sealed = self.sealer.seal(path, number, datagram, &mut tag);
        datagram.extend_from_slice(&tag);
        sealed
    }

    /// Opens a datagram; `None` for one that is to be dropped.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Option<Opened<'a>> {
        let (path, number, body) = self.opener.open(datagram).ok()?;
        let newest = self.windows.accept(path, number)?;
        Some(Opened { path, number, newest, body })
    }

    /// Where a path leads to, as far as known.
    #[must_use]
    pub const fn destination(&self, path: PathId) -> Option<Address> {
        self.known[path.number() as usize]
    }

    /// The path's newest datagram came from there. Whether that is news.
    pub const fn follow(&mut self, path: PathId, source: Address) -> bool {
        let known = &mut self.known[path.number() as usize];
        let same = matches!(*known, Some(old) if old == source);
        *known = Some(source);
        !same
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope").finish_non_exhaustive()
    }
}

/// A real handshake with fixed keys: the router's and the server's end.
fn sessions() -> Result<[Session; 2], HandshakeError> {
    let now = Time::ZERO;
    let suites = [Suite::Aes128Gcm];
    let code = PairingCode {
        server: SecretKey::from_bytes([0x51; 32]).public(),
        endpoints: Vec::new(),
        seed: RouterSeed::from_bytes([0x52; 32]),
    };
    let identity = RouterIdentity::from_code(&code);
    let mut router = RouterHandshake::start(identity, 1, [0x55; 32], &suites, Instance([0x71; 8]))?;
    let server = ServerHandshake::new(SecretKey::from_bytes([0x51; 32]), &suites);
    let jar = CookieJar::new(now, [[0x61; 32], [0x62; 32]]);
    let source = std::net::SocketAddr::from(([192, 0, 2, 7], 40_000));
    let entropy = ([0x53; 32], [0x54; 24]);
    let heard = server.handle(&router.init(now), source, Admission::Open, &jar, entropy)?;
    let Verdict::Pending(pending) = heard else { return Err(HandshakeError::Malformed) };
    let egress = Egress { ipv4: true, ipv6: false };
    let welcome = Welcome { egress, instance: Instance([0x72; 8]), inner: None };
    let (response, server) = pending.accept(now, &code.seed.preshared_key(), 2, welcome)?;
    match router.handle(now, &response)? {
        Reply::Session(router) => Ok([*router, server]),
        Reply::SendAgain | Reply::Notice(_) => Err(HandshakeError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use wanbond_proto::datagram::HEADER_LEN;

    use super::*;

    fn sealed(path: PathId, number: u64, body: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_LEN];
        datagram.extend_from_slice(body);
        assert!(Envelope::new(Side::Router).seal(path, number, &mut datagram));
        datagram
    }

    #[test]
    fn what_is_sealed_opens_once_and_only_at_the_other_end() {
        let path = PathId::new(3).unwrap();
        let datagram = sealed(path, 7, b"hello");
        assert!(Envelope::new(Side::Router).open(&mut datagram.clone()).is_none());
        let mut server = Envelope::new(Side::Server);
        let mut copy = datagram.clone();
        let opened = server.open(&mut copy).unwrap();
        assert_eq!((opened.path, opened.number, opened.body), (path, 7, &b"hello"[..]));
        let mut again = datagram;
        assert!(server.open(&mut again).is_none());
    }

    #[test]
    fn a_changed_bit_is_noticed_wherever_it_is() {
        let datagram = sealed(PathId::new(0).unwrap(), 0, b"hello");
        let mut server = Envelope::new(Side::Server);
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(server.open(&mut changed).is_none(), "bit {bit}");
        }
        let mut genuine = datagram;
        assert!(server.open(&mut genuine).is_some());
    }

    #[test]
    fn a_path_is_followed_once() {
        let mut server = Envelope::new(Side::Server);
        let path = PathId::new(1).unwrap();
        assert_eq!(server.destination(path), None);
        assert!(server.follow(path, 5));
        assert!(!server.follow(path, 5));
        assert!(server.follow(path, 6));
        assert_eq!(server.destination(path), Some(6));
    }
}
