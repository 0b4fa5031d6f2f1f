//! The figures that the tunnel is judged by: they are as they should be, and as they were.
//!
//! `WANBOND_SIM_WRITE=1` writes `TABLE.md` anew.

use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

use wanbond_sim::table::{self, Row};

const COMMAND: &str = "WANBOND_SIM_WRITE=1 cargo test -p wanbond-sim --test figures";

static SHOWN: LazyLock<Vec<Row>> = LazyLock::new(table::shown);

/// Figures that are not as they should be yet. One that has become so must go from here.
const NOT_YET: &[(&str, &str)] = &[
    ("S1 up", "ping under streams, p99, us"),
    ("S1 up", "ping under packets, p99, us"),
    ("S1 up", "link 0 cut under packets: UDP gap, us"),
    ("S1 up", "link 0 cut under packets: bulk gap, us"),
    ("S1 up", "link 1 cut under packets: bulk gap, us"),
    ("S1 down", "ping under packets with a third path, p99, us"),
    ("S1 up", "ping under packets with a third path, p99, us"),
];

#[test]
fn figures_reach_their_goals() {
    let known = |row: &Row| NOT_YET.contains(&(row.place.as_str(), row.what.as_str()));
    let mut text = String::new();
    for row in SHOWN.iter().filter(|row| row.holds() == known(row)) {
        let _ = writeln!(
            text,
            "(\"{}\", \"{}\"), // {}, {:?}",
            row.place, row.what, row.figure, row.goal
        );
    }
    assert!(text.is_empty(), "missed, or reached and still in NOT_YET:\n{text}");
}

#[test]
fn the_table_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("TABLE.md");
    let new = table::text(&SHOWN);
    if std::env::var_os("WANBOND_SIM_WRITE").is_some() {
        std::fs::write(&path, &new).expect("TABLE.md can be written");
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let mut changes = String::new();
    let (old_lines, new_lines): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    for line in old_lines.iter().filter(|line| !new_lines.contains(line)) {
        let _ = writeln!(changes, "- {line}");
    }
    for line in new_lines.iter().filter(|line| !old_lines.contains(line)) {
        let _ = writeln!(changes, "+ {line}");
    }
    assert!(
        old == new,
        "TABLE.md is of another tunnel:\n{changes}\nto write it anew:\n  {COMMAND}\n"
    );
}
