//! The multipath tunnel.

pub mod stream;
