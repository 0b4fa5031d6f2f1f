//! wanbond-lab
#![forbid(unsafe_code)]

pub mod control;
mod daemon;
pub mod demo;
pub mod emulator;
mod error;
mod lab;
pub mod ns;
pub mod privilege;
pub mod registry;
pub mod scenario;
pub mod topology;
pub mod traffic;
pub mod units;
mod wan;

pub use daemon::{KernelState, Router, RouterConfig, Server, Usage};
pub use error::LabError;
pub use lab::Lab;
pub use wan::Wan;
