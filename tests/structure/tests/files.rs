//! What source files may hold.

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files hold more than one idea and are split.
const MOST_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every Rust file below `folder`, build output aside.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder is readable") {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() && !path.is_symlink() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn unsafe_code_is_forbidden_but_at_the_kernels_edge() {
    let mut missing = Vec::new();
    for group in ["aggregator", "tests"] {
        for path in rust_files(&root().join(group)) {
            let is_root = ["src/lib.rs", "src/main.rs"].iter().any(|end| path.ends_with(end));
            let is_edge = path.starts_with(root().join("aggregator/linux"));
            if is_root && !is_edge && !read(&path).contains("\n#![forbid(unsafe_code)]\n") {
                missing.push(shown(&path));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "put `#![forbid(unsafe_code)]` in {missing:?}: only wanbond-linux may hold unsafe code, \
         so that one crate is to be read for it"
    );
}

#[test]
fn the_core_has_no_clock_socket_or_chance_in_it() {
    // clippy.toml forbids them by type; this finds what a cfg hides from clippy, and new names.
    const FORBIDDEN: &[&str] = &[
        "Instant",
        "SystemTime",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "SystemRandom",
        "getrandom",
        "thread_rng",
        "rand::",
        "std::thread",
        "std::fs",
        "std::process",
        "std::env",
        "async fn",
    ];
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("aggregator/proto/src")) {
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN.iter().filter(|&&word| code.contains(word)) {
                wrong.push(format!("{}:{}: {word}", shown(&path), number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "wanbond-proto is pure: time and randomness come in as arguments, bytes go out\n{}\n",
        wrong.join("\n")
    );
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = ["aggregator", "tests"]
        .iter()
        .flat_map(|group| rust_files(&root().join(group)))
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, path)| format!("{} has {lines} lines", shown(&path)))
        .collect();
    assert!(long.is_empty(), "split by idea what is longer than {MOST_LINES} lines: {long:?}");
}
