//! The ioctls of the TUN driver (`linux/if_tun.h`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::request_code_write;

/// `IFF_TUN`: IP packets, without an Ethernet header.
pub(super) const IFF_TUN: u16 = 0x0001;
/// `IFF_MULTI_QUEUE`: may be opened several times, each a queue.
pub(super) const IFF_MULTI_QUEUE: u16 = 0x0100;
/// `IFF_NO_PI`: nothing in front of packets that tells their protocol.
pub(super) const IFF_NO_PI: u16 = 0x1000;
/// `IFF_VNET_HDR`: a virtio header in front of packets.
pub(super) const IFF_VNET_HDR: u16 = 0x4000;
/// `IFF_TUN_EXCL`: fail if there is a device of that name already.
pub(super) const IFF_TUN_EXCL: u16 = 0x8000;

/// `TUN_F_CSUM`: may hand over packets whose checksum is not yet made.
pub(super) const TUN_F_CSUM: u32 = 0x01;
/// `TUN_F_TSO4`, `TUN_F_TSO6`: and TCP to be cut.
pub(super) const TUN_F_TSO: u32 = 0x02 | 0x04;
/// `TUN_F_TSO_ECN`: even with CWR set.
pub(super) const TUN_F_TSO_ECN: u32 = 0x08;
/// `TUN_F_USO4`, `TUN_F_USO6`: and UDP to be cut. Linux 6.2.
pub(super) const TUN_F_USO: u32 = 0x20 | 0x40;

/// Size of `struct ifreq` on 64-bit machines; 32 on others. The kernel takes what it needs.
const IFREQ_LEN: usize = 40;
/// Longest name with its final zero (`IFNAMSIZ`).
pub(super) const IFNAMSIZ: usize = 16;

/// Makes the open file a queue of the device `name`, which is made if there is none.
/// `name` must be shorter than [`IFNAMSIZ`].
pub(super) fn set_iff(file: &File, name: &str, flags: u16) -> io::Result<()> {
    const TUNSETIFF: u64 = request_code_write!(b'T', 202, size_of::<libc::c_int>()) as u64;
    let mut request = [0u8; IFREQ_LEN];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[IFNAMSIZ..IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the pointer is to live bytes, at least as many as `struct ifreq` has, which the
    // kernel reads and writes during the call; any byte pattern is a valid u8. The descriptor is
    // open, as it is borrowed. The request's type differs between C libraries.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, request.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the length in bytes of the header in front of packets.
pub(super) fn set_vnet_header_len(file: &File, length: usize) -> io::Result<()> {
    const TUNSETVNETHDRSZ: u64 = request_code_write!(b'T', 216, size_of::<libc::c_int>()) as u64;
    let length = length as libc::c_int;
    // SAFETY: the pointer is to a live C int, which the kernel only reads, during the call. The
    // descriptor is open, as it is borrowed.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets what the kernel may leave to whoever reads from the device.
pub(super) fn set_offload(file: &File, offloads: u32) -> io::Result<()> {
    const TUNSETOFFLOAD: u64 = request_code_write!(b'T', 208, size_of::<libc::c_uint>()) as u64;
    // SAFETY: the argument is a number, not a pointer. The descriptor is open, as it is borrowed.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD as _, libc::c_ulong::from(offloads)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
