//! wanbond-lab
#![forbid(unsafe_code)]
pub mod emulator;
pub mod ns;
pub mod scenario;
pub mod units;
