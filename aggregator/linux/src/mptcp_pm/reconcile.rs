//! The endpoints we want, and making it so.

use std::net::IpAddr;

use super::manager::{Limits, PathManager, PmError};
use super::message::{Endpoint, EndpointFlags};
use crate::owned::{Changed, Journal, OwnedEndpoint};

/// An address connections shall have a subflow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DesiredEndpoint {
    /// The address.
    pub address: IpAddr,
    /// The link to bind its subflows to.
    pub ifindex: Option<u32>,
    /// Whether peers shall use it only when there is no other.
    pub backup: bool,
}

/// What a reconciliation did.
#[derive(Debug, Default)]
pub struct EndpointsApplied {
    /// Endpoints added, with their ids.
    pub added: Vec<OwnedEndpoint>,
    /// Endpoints of ours removed.
    pub removed: Vec<OwnedEndpoint>,
    /// Endpoints of ours whose backup flag was changed.
    pub changed: usize,
    /// Endpoints that stand for an address we want but were made by somebody else. They are used
    /// as they are, and stay when we go.
    pub foreign: Vec<Endpoint>,
    /// Addresses that could not be served, and why. The rest was done.
    pub failed: Vec<(IpAddr, PmError)>,
}

impl EndpointsApplied {
    /// Whether everything was in place already.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed == 0
            && self.failed.is_empty()
    }
}

impl PathManager {
    /// Adds endpoints for the addresses that have none, each under a fresh id, and removes ours
    /// that are not wanted. Others' endpoints are left alone.
    ///
    /// To make the kernel try again on an address, leave it out of one call and ask for it in the
    /// next: it comes back under another id.
    ///
    /// # Errors
    /// When endpoints can't be listed or the journal not be written. What fails for one address
    /// only is in [`EndpointsApplied::failed`].
    pub async fn apply(
        &self,
        desired: &[DesiredEndpoint],
        journal: &Journal,
    ) -> Result<EndpointsApplied, PmError> {
        let mut applied = EndpointsApplied::default();
        let mut present = self.list().await?;
        // An id in the journal counts only with its address: after a flush by somebody else, the
        // kernel may have given it away.
        let owned = journal.endpoints();
        let is_ours = |endpoint: &Endpoint| {
            owned.iter().any(|o| Some(o.id) == endpoint.id && o.address == endpoint.address)
        };

        let mut removed = Vec::new();
        for endpoint in present.iter().filter(|endpoint| is_ours(endpoint)) {
            let wanted = desired.iter().find(|want| want.address == endpoint.address);
            // An endpoint can't be moved to another link: it goes and comes back.
            if wanted.is_some_and(|want| want.ifindex == endpoint.ifindex) {
                continue;
            }
            let Some(id) = endpoint.id else { continue };
            match self.remove(id).await {
                Ok(_) => {
                    let gone = OwnedEndpoint { id, address: endpoint.address };
                    journal.update(|record| record.endpoints.retain(|o| *o != gone))?;
                    applied.removed.push(gone);
                    removed.push(*endpoint);
                }
                Err(error) => applied.failed.push((endpoint.address, error)),
            }
        }
        present.retain(|endpoint| !removed.contains(endpoint));
        // What the journal names and the kernel no longer has.
        journal.update(|record| {
            record
                .endpoints
                .retain(|o| present.iter().any(|e| e.id == Some(o.id) && e.address == o.address));
        })?;

        for want in desired {
            let existing = present.iter().find(|endpoint| endpoint.address == want.address);
            let result = match existing {
                Some(endpoint) if is_ours(endpoint) => {
                    if endpoint.flags.backup == want.backup {
                        continue;
                    }
                    self.set_backup(endpoint, want.backup).await.map(|()| applied.changed += 1)
                }
                Some(endpoint) if !endpoint.flags.implicit => {
                    applied.foreign.push(*endpoint);
                    continue;
                }
                // The kernel made one by itself, and lets us take its place under its id.
                Some(implicit) => self
                    .add_owned(want, None, implicit.id, journal)
                    .await
                    .map(|endpoint| applied.added.push(endpoint)),
                None => match fresh_id(&present, journal) {
                    Some(id) => {
                        self.add_owned(want, Some(id), Some(id), journal).await.map(|endpoint| {
                            present.push(want.with_id(Some(endpoint.id)));
                            applied.added.push(endpoint);
                        })
                    }
                    None => Err(PmError::NoFreeId),
                },
            };
            match result {
                Err(error @ PmError::Journal(_)) => return Err(error),
                Err(error) => applied.failed.push((want.address, error)),
                Ok(()) => {}
            }
        }
        Ok(applied)
    }

    /// Adds an endpoint, written down first. `ask_for` is the id in the request, `expect` the one
    /// it will have.
    async fn add_owned(
        &self,
        want: &DesiredEndpoint,
        ask_for: Option<u8>,
        expect: Option<u8>,
        journal: &Journal,
    ) -> Result<OwnedEndpoint, PmError> {
        let owned = OwnedEndpoint { id: expect.ok_or(PmError::NoFreeId)?, address: want.address };
        journal.update(|record| {
            record.endpoints.push(owned);
            record.last_endpoint_id = owned.id;
        })?;
        match self.add(&want.with_id(ask_for)).await {
            Ok(()) => Ok(owned),
            Err(error) => {
                journal.update(|record| record.endpoints.retain(|o| *o != owned))?;
                Err(error)
            }
        }
    }

    /// Raises the limits to at least these, after writing down what they were.
    ///
    /// # Errors
    /// When the kernel refuses or the journal can't be written.
    pub async fn raise_limits(&self, at_least: Limits, journal: &Journal) -> Result<(), PmError> {
        let now = self.limits().await?;
        let wanted = Limits {
            subflows: now.subflows.max(at_least.subflows),
            add_addr_accepted: now.add_addr_accepted.max(at_least.add_addr_accepted),
        };
        if wanted == now {
            return Ok(());
        }
        journal.update(|record| {
            let before = record.limits.take().map_or(pair(now), |changed| changed.before);
            record.limits = Some(Changed { before, ours: pair(wanted) });
        })?;
        self.set_limits(wanted).await
    }

    /// Removes the endpoints in the journal and restores the limits.
    pub(crate) async fn undo(
        &self,
        journal: &Journal,
    ) -> Result<(EndpointsApplied, bool), PmError> {
        let applied = self.apply(&[], journal).await?;
        let Some(changed) = journal.read(|record| record.limits.clone()) else {
            return Ok((applied, false));
        };
        // Somebody else's wish, if they aren't what we made them any more.
        let restore = pair(self.limits().await?) == changed.ours;
        if restore {
            let (subflows, add_addr_accepted) = changed.before;
            self.set_limits(Limits { subflows, add_addr_accepted }).await?;
        }
        journal.update(|record| record.limits = None)?;
        Ok((applied, restore))
    }
}

impl DesiredEndpoint {
    fn with_id(&self, id: Option<u8>) -> Endpoint {
        Endpoint {
            id,
            address: self.address,
            ifindex: self.ifindex,
            port: None,
            flags: EndpointFlags { subflow: true, backup: self.backup, ..EndpointFlags::default() },
        }
    }
}

const fn pair(limits: Limits) -> (u32, u32) {
    (limits.subflows, limits.add_addr_accepted)
}

/// The next free id after the last one given: with 255 of them, the longest possible time passes
/// before one comes back.
fn fresh_id(present: &[Endpoint], journal: &Journal) -> Option<u8> {
    let last = journal.read(|record| record.last_endpoint_id);
    next_id(last, |id| present.iter().any(|endpoint| endpoint.id == Some(id)))
}

fn next_id(last: u8, taken: impl Fn(u8) -> bool) -> Option<u8> {
    let after = |id: u8| if id == u8::MAX { 1 } else { id + 1 };
    let first = after(last);
    let mut id = first;
    while taken(id) {
        id = after(id);
        if id == first {
            return None;
        }
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::next_id;

    #[test]
    fn ids_go_round_and_skip_what_is_taken() {
        assert_eq!(next_id(0, |_| false), Some(1));
        assert_eq!(next_id(1, |id| id == 2), Some(3));
        assert_eq!(next_id(255, |_| false), Some(1));
        assert_eq!(next_id(254, |id| id == 255), Some(1));
        assert_eq!(next_id(7, |id| id != 7), Some(7));
        assert_eq!(next_id(7, |_| true), None);
    }
}
