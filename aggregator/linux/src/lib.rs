//! wanbond-linux
