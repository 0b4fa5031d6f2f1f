//! OpenWrt's own `uci`, built once for all tests of a program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where it is.
pub(crate) fn uci() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uci");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("uci.sh");
        let done = Command::new("bash").arg(script).arg(&file).output().expect("bash runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        file
    })
}
