//! Names to addresses, one family at a time.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType};
use thiserror::Error;
use tokio::sync::Semaphore;

/// Why a name has no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// There is no such name, or it has no address of this family.
    #[error("no such name")]
    NotFound,
    /// It can't be told now.
    #[error("name resolution failed")]
    Failed,
}

/// An answer to come.
pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send>>;

/// Whoever knows the addresses of names.
pub trait Resolve: Send + Sync {
    /// The IPv6 or IPv4 addresses of a name, best first.
    fn resolve(&self, name: &str, v6: bool) -> Answer;
}

/// The system's resolver, through the C library: `/etc/hosts`, `/etc/resolv.conf` and all. Its
/// own order (RFC 6724) is kept within a family.
#[derive(Debug)]
pub struct SystemResolver {
    // A look-up holds a thread until the C library gives up; a dead name server must not take
    // all threads there are.
    slots: Arc<Semaphore>,
}

/// Look-ups at once, each one thread while it lasts.
const MAX_LOOKUPS: usize = 128;

impl Default for SystemResolver {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str, v6: bool) -> Answer {
        let name = name.to_owned();
        let slots = Arc::clone(&self.slots);
        Box::pin(async move {
            let slot = slots.acquire_owned().await.map_err(|_| ResolveError::Failed)?;
            let lookup = tokio::task::spawn_blocking(move || {
                // Held until the thread is free, even if nobody waits any more.
                let _slot = slot;
                look_up(&name, v6)
            });
            lookup.await.unwrap_or(Err(ResolveError::Failed))
        })
    }
}

fn look_up(name: &str, v6: bool) -> Result<Vec<IpAddr>, ResolveError> {
    let family = if v6 { AddrFamily::Inet6 } else { AddrFamily::Inet };
    let hints = AddrInfoHints {
        address: family.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    match dns_lookup::getaddrinfo(Some(name), None, Some(hints)) {
        Ok(list) => Ok(list.flatten().map(|info| info.sockaddr.ip()).collect()),
        Err(error) => Err(match error.kind() {
            // IO: a name with a zero byte in it, or one without addresses of the family
            // (EAI_ADDRFAMILY, which has no kind of its own).
            LookupErrorKind::NoName | LookupErrorKind::NoData | LookupErrorKind::IO => {
                ResolveError::NotFound
            }
            _ => ResolveError::Failed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_and_nonsense() {
        let resolver = SystemResolver::default();
        let loopback = resolver.resolve("127.0.0.1", false).await.unwrap();
        assert_eq!(loopback, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let error = resolver.resolve("a\0b", false).await.unwrap_err();
        assert_eq!(error, ResolveError::NotFound);
    }
}
