//! wanbond-lab
