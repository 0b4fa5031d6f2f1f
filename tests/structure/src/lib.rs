//! Tests of the repository's own shape: which crate may depend on which, and what a file may hold.
//! Nothing but tests: see `tests/`.

#![forbid(unsafe_code)]
