//! Talking to the path manager.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::{SocketAddr, protocols::NETLINK_GENERIC};

use super::genl::{Attribute, GenlMessage};
use super::message::{self, Endpoint};
use crate::netlink::AbortOnDrop;
use crate::owned::JournalError;

/// The path manager can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PmError {
    /// This kernel has no MPTCP path manager.
    #[error("this kernel has no MPTCP")]
    Unsupported,
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
    /// The socket broke down in the middle of a request, or the answer made no sense.
    #[error("no answer from the kernel while we wanted to {0}")]
    NoAnswer(String),
    /// All 255 ids are in use.
    #[error("every endpoint id is taken")]
    NoFreeId,
    /// What we are about to do could not be written down first.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// How many subflows connections may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Subflows beyond the first, at most 8.
    pub subflows: u32,
    /// ADD_ADDRs of a peer that are taken up, at most 8.
    pub add_addr_accepted: u32,
}

impl Limits {
    /// The most the kernel allows.
    pub const MAX: Self = Self { subflows: 8, add_addr_accepted: 8 };
}

/// The path manager of the network namespace of the thread that made this. Cheap to clone.
#[derive(Clone)]
pub struct PathManager {
    handle: ConnectionHandle<GenlMessage>,
    family: u16,
    _task: Arc<AbortOnDrop>,
}

impl PathManager {
    /// Opens a socket and finds the kernel's path manager.
    ///
    /// # Errors
    /// [`PmError::Unsupported`] where the kernel has none; [`PmError::Open`].
    pub async fn new() -> Result<Self, PmError> {
        let (connection, handle, _) =
            new_connection::<GenlMessage>(NETLINK_GENERIC).map_err(PmError::Open)?;
        let task = AbortOnDrop::spawn(connection);
        let mut manager = Self { handle, family: 0, _task: Arc::new(task) };
        let found = manager
            .request("find the path manager", GenlMessage::get_family(message::FAMILY), 0)
            .await;
        match found {
            Ok(answers) => {
                manager.family = answers
                    .iter()
                    .find_map(GenlMessage::family_id)
                    .ok_or_else(|| PmError::NoAnswer("find the path manager".into()))?;
                Ok(manager)
            }
            Err(PmError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
                Err(PmError::Unsupported)
            }
            Err(other) => Err(other),
        }
    }

    /// All endpoints, whoever made them.
    ///
    /// # Errors
    /// When the kernel refuses or doesn't answer.
    pub async fn list(&self) -> Result<Vec<Endpoint>, PmError> {
        let request = self.message(message::CMD_GET_ADDR, &[]);
        let answers = self.request("list MPTCP endpoints", request, NLM_F_DUMP).await?;
        Ok(answers.iter().filter_map(|answer| Endpoint::parse(&answer.attributes)).collect())
    }

    /// Adds an endpoint. Without an id in it the kernel chooses one.
    ///
    /// # Errors
    /// When the kernel refuses: the address (`EEXIST`) or the id is taken, or there are 8 already.
    pub async fn add(&self, endpoint: &Endpoint) -> Result<(), PmError> {
        self.command(
            &format!("add MPTCP endpoint {endpoint}"),
            message::CMD_ADD_ADDR,
            &[endpoint.to_attribute()],
        )
        .await
    }

    /// Removes an endpoint and closes its subflows. `false` if it was not there.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub async fn remove(&self, id: u8) -> Result<bool, PmError> {
        let what = format!("remove MPTCP endpoint {id}");
        match self.command(&what, message::CMD_DEL_ADDR, &[message::by_id(id)]).await {
            Ok(()) => Ok(true),
            // "address not found"
            Err(PmError::Refused { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) =>
            {
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    /// Makes an endpoint a backup, or not one any more. Existing subflows follow.
    ///
    /// # Errors
    /// When the kernel refuses, such as when the endpoint is gone.
    pub async fn set_backup(&self, endpoint: &Endpoint, backup: bool) -> Result<(), PmError> {
        let mut wanted = *endpoint;
        wanted.flags.backup = backup;
        self.command(
            &format!("change MPTCP endpoint {endpoint}"),
            message::CMD_SET_FLAGS,
            &[wanted.to_attribute()],
        )
        .await
    }

    /// The limits in force.
    ///
    /// # Errors
    /// When the kernel refuses or doesn't answer.
    pub async fn limits(&self) -> Result<Limits, PmError> {
        let what = "read the MPTCP limits";
        let request = self.message(message::CMD_GET_LIMITS, &[]);
        self.request(what, request, 0)
            .await?
            .iter()
            .find_map(|answer| message::parse_limits(&answer.attributes))
            .map(|(subflows, add_addr_accepted)| Limits { subflows, add_addr_accepted })
            .ok_or_else(|| PmError::NoAnswer(what.into()))
    }

    /// Sets the limits. To have them restored later, use [`Self::raise_limits`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_limits(&self, limits: Limits) -> Result<(), PmError> {
        self.command(
            "set the MPTCP limits",
            message::CMD_SET_LIMITS,
            &message::limits(limits.subflows, limits.add_addr_accepted),
        )
        .await
    }

    fn message(&self, command: u8, attributes: &[Attribute]) -> GenlMessage {
        GenlMessage::new(self.family, command, message::VERSION, attributes)
    }

    async fn command(
        &self,
        what: &str,
        command: u8,
        attributes: &[Attribute],
    ) -> Result<(), PmError> {
        self.request(what, self.message(command, attributes), NLM_F_ACK).await.map(drop)
    }

    async fn request(
        &self,
        what: &str,
        request: GenlMessage,
        flags: u16,
    ) -> Result<Vec<GenlMessage>, PmError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self
            .handle
            .request(message, SocketAddr::new(0, 0))
            .map_err(|_| PmError::NoAnswer(what.to_owned()))?;
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(PmError::Refused { what: what.to_owned(), source: error.to_io() });
                }
                _ => {}
            }
        }
        Ok(found)
    }
}
