//! wanbond-structure
