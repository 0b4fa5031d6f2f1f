//! wanbond-linux
pub mod prefix;
pub mod socket;
pub mod special;
