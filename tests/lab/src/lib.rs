//! wanbond-lab
#![forbid(unsafe_code)]

pub mod emulator;
mod error;
mod lab;
pub mod ns;
pub mod registry;
pub mod scenario;
pub mod topology;
pub mod traffic;
pub mod units;
mod wan;

pub use error::LabError;
pub use lab::{Lab, Router};
pub use wan::Wan;
