//! wanbond-control
