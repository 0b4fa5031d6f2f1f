//! wanbond, the router daemon and its command line.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
