//! Opening the device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use super::queue::TunQueue;
use super::sys;
use super::vnet::VnetHeader;

const CONTROL: &str = "/dev/net/tun";

/// What the kernel leaves to us, and takes from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Packets bear a header that tells of the rest. Nothing else is there without it.
    pub header: bool,
    /// Checksums that are not made yet.
    pub checksum: bool,
    /// Long TCP packets, to be cut.
    pub tcp: bool,
    /// Likewise UDP. Linux 6.2.
    pub udp: bool,
}

impl Offloads {
    /// Everything.
    pub const ALL: Self = Self { header: true, checksum: true, tcp: true, udp: true };
    /// Plain packets, one by one.
    pub const NONE: Self = Self { header: false, checksum: false, tcp: false, udp: false };

    /// Only what can be had together: each needs those before it.
    fn consistent(self) -> Self {
        let checksum = self.checksum && self.header;
        let tcp = self.tcp && checksum;
        Self { header: self.header, checksum, tcp, udp: self.udp && tcp }
    }
}

/// How to open a device.
#[derive(Debug, Clone, Copy)]
pub struct TunOptions {
    /// How many queues, each of which may be used by a thread of its own. The kernel keeps a flow
    /// on one queue.
    pub queues: usize,
    /// What to use if the kernel has it.
    pub offloads: Offloads,
}

impl Default for TunOptions {
    /// One queue and everything that the kernel has.
    fn default() -> Self {
        Self { queues: 1, offloads: Offloads::ALL }
    }
}

/// Why there is no device. Each says what can be done.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// No device can have that name.
    #[error("{0:?} can't be a network device's name: 1 to 15 letters, digits, '-', '_' or '.'")]
    Name(String),
    /// The driver is missing.
    #[error(
        "the kernel has no TUN driver ({CONTROL}: {0}): load the module `tun` (on OpenWrt, install \
         kmod-tun; in a container, let it have {CONTROL})"
    )]
    NoDriver(#[source] io::Error),
    /// Not allowed to.
    #[error("not allowed to make a TUN device ({0}): this needs root, or CAP_NET_ADMIN")]
    NotAllowed(#[source] io::Error),
    /// Another device has that name.
    #[error(
        "there is a network device {0} already: stop the program that made it, or remove it with \
         `ip link delete {0}`"
    )]
    Taken(String),
    /// Anything else.
    #[error("can't make the TUN device {name}: {source}")]
    Refused {
        /// The name asked for.
        name: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// A TUN device that is ours. It is there as long as one of its queues.
#[derive(Debug)]
pub struct Tun {
    name: String,
    offloads: Offloads,
    queues: Vec<TunQueue>,
}

impl Tun {
    /// Makes the device `name` in the network namespace of this thread, with as much of what is
    /// asked for as the kernel has. Never takes over a device that is there already.
    ///
    /// # Errors
    /// See [`TunError`].
    ///
    /// # Panics
    /// Outside a Tokio runtime that does I/O.
    pub fn open(name: &str, options: &TunOptions) -> Result<Self, TunError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let plain = !name.is_empty() && name.bytes().all(allowed) && !name.starts_with('.');
        if !plain || name.len() >= sys::IFNAMSIZ {
            return Err(TunError::Name(name.to_owned()));
        }
        let count = options.queues.max(1);
        let several = if count > 1 { sys::IFF_MULTI_QUEUE } else { 0 };
        let (first, offloads) = match make(name, options.offloads.consistent(), several) {
            // Where even the header is too much, or there is only a wrapper around the driver.
            Err(TunError::Refused { .. }) if options.offloads.header => {
                make(name, Offloads::NONE, several)?
            }
            result => result?,
        };
        let mut files = vec![first];
        while files.len() < count {
            let file = open_control()?;
            match attach(&file, name, flags(offloads, several)) {
                Ok(()) => files.push(file),
                Err(error) => {
                    tracing::debug!(device = name, queues = files.len(), %error, "no more queues");
                    break;
                }
            }
        }
        let queues: Result<Vec<_>, io::Error> =
            files.into_iter().map(|file| TunQueue::new(file, offloads)).collect();
        let queues =
            queues.map_err(|source| TunError::Refused { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), offloads, queues })
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel has of what was asked for.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// The queues: at least one, and as many as asked for unless the kernel allows fewer.
    #[must_use]
    pub fn queues(&self) -> &[TunQueue] {
        &self.queues
    }

    /// The queues, to be used by a task each.
    #[must_use]
    pub fn into_queues(self) -> Vec<TunQueue> {
        self.queues
    }
}

/// Makes the device, and finds out what the kernel can do with it.
fn make(name: &str, wanted: Offloads, several: u16) -> Result<(File, Offloads), TunError> {
    let file = open_control()?;
    attach(&file, name, flags(wanted, several) | sys::IFF_TUN_EXCL)?;
    if !wanted.header {
        return Ok((file, Offloads::NONE));
    }
    let refused = |source| TunError::Refused { name: name.to_owned(), source };
    // What it is anyway, unless the kernel's default should change.
    sys::set_vnet_header_len(&file, VnetHeader::LEN).map_err(refused)?;
    let steps =
        [wanted, Offloads { udp: false, ..wanted }, Offloads { udp: false, tcp: false, ..wanted }];
    for step in steps.into_iter().filter(|step| step.checksum) {
        let mut bits = sys::TUN_F_CSUM;
        if step.udp {
            bits |= sys::TUN_F_USO;
        }
        if step.tcp {
            bits |= sys::TUN_F_TSO;
            if sys::set_offload(&file, bits | sys::TUN_F_TSO_ECN).is_ok() {
                return Ok((file, step));
            }
        }
        if sys::set_offload(&file, bits).is_ok() {
            return Ok((file, step));
        }
    }
    Ok((file, Offloads { header: true, ..Offloads::NONE }))
}

fn flags(offloads: Offloads, several: u16) -> u16 {
    let header = if offloads.header { sys::IFF_VNET_HDR } else { 0 };
    sys::IFF_TUN | sys::IFF_NO_PI | header | several
}

fn open_control() -> Result<File, TunError> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(CONTROL);
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TunError::NotAllowed(error),
        // No file, or none behind it.
        _ => TunError::NoDriver(error),
    })
}

fn attach(file: &File, name: &str, flags: u16) -> Result<(), TunError> {
    sys::set_iff(file, name, flags).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TunError::NotAllowed(error),
        Some(libc::EBUSY | libc::EEXIST) => TunError::Taken(name.to_owned()),
        _ => TunError::Refused { name: name.to_owned(), source: error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_need_each_other() {
        assert_eq!(Offloads::ALL.consistent(), Offloads::ALL);
        assert_eq!(Offloads { header: false, ..Offloads::ALL }.consistent(), Offloads::NONE);
        let only_header = Offloads { header: true, ..Offloads::NONE };
        assert_eq!(Offloads { checksum: false, ..Offloads::ALL }.consistent(), only_header);
        assert!(!Offloads { tcp: false, ..Offloads::ALL }.consistent().udp);
    }

    #[test]
    fn names_that_no_device_can_have() {
        for name in ["", "0123456789abcdef", "a/b", "a b", "wan%d", "..", "grün"] {
            let error = Tun::open(name, &TunOptions::default()).unwrap_err();
            assert!(matches!(error, TunError::Name(_)), "{error}");
        }
    }
}
