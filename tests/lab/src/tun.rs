//! The emulator's TUN devices: those of the crate `tappers`, and none where it can't be built, which
//! is with musl. Labs for other processors are built with that, and use the kernel's netem.

#[cfg(target_env = "musl")]
pub(crate) use absent::Tun;
#[cfg(not(target_env = "musl"))]
pub(crate) use tappers::Tun;

use std::io;

/// A new device in the caller's namespace; it goes when the handle does.
#[cfg(not(target_env = "musl"))]
pub(crate) fn open(name: &str) -> io::Result<Tun> {
    Tun::new_named(tappers::Interface::new(name)?)
}

/// As above, where there are none.
#[cfg(target_env = "musl")]
pub(crate) fn open(_name: &str) -> io::Result<Tun> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build knows netem and veth links only"))
}

#[cfg(target_env = "musl")]
mod absent {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    /// There are no values of it.
    #[derive(Debug)]
    pub(crate) enum Tun {}

    impl Tun {
        pub(crate) fn recv(&self, _packet: &mut [u8]) -> io::Result<usize> {
            match *self {}
        }

        pub(crate) fn send(&self, _packet: &[u8]) -> io::Result<usize> {
            match *self {}
        }

        pub(crate) fn set_nonblocking(&mut self, _nonblocking: bool) -> io::Result<()> {
            match *self {}
        }
    }

    impl AsFd for Tun {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match *self {}
        }
    }
}
