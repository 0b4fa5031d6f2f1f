//! wanbond-relay
