//! Dependencies point one way: `proto`, `linux` and `control` ← `relay` ← the daemons ← tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A crate, what it may not name in its manifest (for its library, binaries or build), and why.
struct Rule {
    package: &'static str,
    only_ours: &'static [&'static str],
    never: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        package: "wanbond-proto",
        only_ours: &[],
        never: &[
            "async-std",
            "fastrand",
            "futures-util",
            "getrandom",
            "libc",
            "mio",
            "nix",
            "quinn-udp",
            "rand",
            "rand_core",
            "rustix",
            "smol",
            "socket2",
            "tokio",
        ],
        why: "the core is pure, so that daemons, simulation and fuzzer run the same code: \
              time and randomness are arguments, sockets live in wanbond-linux and wanbond-relay",
    },
    Rule {
        package: "wanbond-linux",
        only_ours: &[],
        never: &[],
        why: "the kernel's edge knows nothing of the protocol, so that either can change alone",
    },
    Rule {
        package: "wanbond-control",
        only_ours: &["wanbond-proto"],
        never: &["libc", "nix", "socket2", "tokio"],
        why: "the types that CLI, LuCI, metrics and lab share must not pull in a daemon",
    },
    Rule {
        package: "wanbond-relay",
        only_ours: &["wanbond-proto", "wanbond-linux"],
        never: &[],
        why: "both daemons move bytes by it, so it can know neither of them",
    },
    Rule {
        package: "wanbond",
        only_ours: &["wanbond-control", "wanbond-linux", "wanbond-proto", "wanbond-relay"],
        never: &[],
        why: "the router must not carry server code, nor tests",
    },
    Rule {
        package: "wanbond-server",
        only_ours: &["wanbond-control", "wanbond-linux", "wanbond-proto", "wanbond-relay"],
        never: &[],
        why: "the server must not carry router code, nor tests",
    },
];

/// Every package of the workspace: its folder, and its dependencies, without those for tests.
fn packages() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let dependencies = list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (text(&package["name"]), (text(&package["manifest_path"]), dependencies))
        })
        .collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn arrows_point_one_way() {
    let packages = packages();
    let mut wrong = Vec::new();
    for rule in RULES {
        let (_, dependencies) = packages.get(rule.package).expect("every rule names a package");
        for dependency in dependencies {
            let ours = packages.contains_key(dependency);
            let forbidden = if ours {
                !rule.only_ours.contains(&dependency.as_str())
            } else {
                rule.never.contains(&dependency.as_str())
            };
            if forbidden {
                wrong.push(format!("{} depends on {dependency}: {}", rule.package, rule.why));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_crate_that_ships_has_a_rule() {
    for (name, (manifest, _)) in packages() {
        let ships = manifest.contains("/aggregator/");
        assert!(
            !ships || RULES.iter().any(|rule| rule.package == name),
            "{name} is new in aggregator/: say in {} what it may depend on",
            file!()
        );
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for (name, (manifest, _)) in packages() {
        let text = std::fs::read_to_string(&manifest).expect("a manifest is readable");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{name} must say `[lints] workspace = true`: one set of lints for all"
        );
    }
}
