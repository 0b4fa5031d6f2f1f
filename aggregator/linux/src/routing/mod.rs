//! Routes and rules: what should be there, and making it so.
//!
//! A caller says what it wants, all of it, each time: [`OwnedRoute`] and [`OwnedRule`] values, or
//! [`WanRoute`]s that expand to them. Reconciling compares that with what carries our route
//! protocol number, adds what is missing and removes what is not wanted. What others made is
//! never touched, not even where it stands in our way: that is reported as a failure of the one
//! route or rule, and the rest goes on.

mod kernel;
mod reconcile;
mod route;
mod rule;
mod wan;

pub use reconcile::{Applied, Failure};
pub use route::{OwnedRoute, RouteKind};
pub use rule::{OwnedRule, RuleAction};
pub use wan::{WanRoute, render};

use crate::owned::Owner;

/// The number that marks the router's routes and rules as ours.
pub const ROUTE_PROTOCOL: u8 = Owner::Router.route_protocol();

/// The main routing table's number.
pub const MAIN_TABLE: u32 = 254;
