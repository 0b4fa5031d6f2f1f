//! wanbond-e2e
