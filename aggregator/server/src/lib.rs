//! wanbond-server
