//! The three system calls that no safe wrapper offers for what we ask of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `SO_NETNS_COOKIE`, Linux 5.14. The same number on every architecture Rust has musl for.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Reads a socket option of any shape into `buffer` and returns how many bytes the kernel wrote.
///
/// Kernel structures grow: a newer kernel truncates to the buffer, an older one writes less. The
/// caller parses by offset and must not look behind the returned length.
pub(super) fn getsockopt(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(buffer.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: `buffer` is valid for writes of `len` bytes and `len` for a read and a write of a
    // socklen_t, both for the length of the call; the kernel writes at most `len` bytes. Any byte
    // pattern is a valid u8. The descriptor is open, as it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((len as usize).min(buffer.len()))
}

/// Sets a socket option that is a C int.
pub(super) fn setsockopt_int(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer is to a live C int and the length is its size; the kernel only reads
    // it, during the call. The descriptor is open, as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs an ioctl that stores one C int.
pub(super) fn ioctl_get_int(socket: &impl AsFd, request: u32) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    // SAFETY: only called with SIOCOUTQ, SIOCOUTQNSD and FIONREAD, which store one C int at the pointer;
    // it is to a live one. The descriptor is open, as it is borrowed. The request's type differs
    // between C libraries (c_ulong in glibc, c_int in musl), hence the cast.
    #[allow(clippy::cast_lossless)]
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request as _, &raw mut value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// A number that names this thread's network namespace, never reused until the next boot.
///
/// Kernels before 5.14 have no such number; the inode of the namespace stands in, which is unique
/// as long as the namespace lives.
pub fn netns_cookie() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut bytes = [0; 8];
    match getsockopt(&socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut bytes) {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        _ => {
            use std::os::linux::fs::MetadataExt;
            Ok(std::fs::metadata("/proc/thread-self/ns/net")?.st_ino())
        }
    }
}

/// A kernel structure as it came back: reads by offset, `None` behind its end.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(self.bytes(at)?))
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes(at)?))
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(at)?))
    }

    pub(super) fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}
