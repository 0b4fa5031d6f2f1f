//! The server's program; see the library's root for how it is made.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    wanbond_server::cli::main()
}
