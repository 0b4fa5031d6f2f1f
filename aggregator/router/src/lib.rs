//! wanbond
