//! What goes around the bond, or through the tunnel only: the rules of `config bypass` sections.
//!
//! ```text
//! configuration ─▶ Rule ─▶ plan (which WANs can be used now) ─▶ nftables marks, routing rules
//!                  names ─▶ dnsmasq fills the rules' sets, or flows tell where they go
//! ```
//!
//! [`rule`] is what a rule can say, [`plan`] what the kernel should hold for all of them at the moment.
//! Domain names become addresses by [`dnsmasq`], which tells nftables what it answers, and by
//! `sniff`: the name that a connection itself gives in its first bytes.

pub(crate) mod ask;
pub mod dnsmasq;
pub(crate) mod domains;
pub mod name_servers;
pub mod plan;
pub mod rule;
pub(crate) mod sniff;

pub use rule::{Domain, Fallback, Mac, Ports, Protocol, Rule, Target};
