//! wanbond-proto
