//! What `cross/package.sh` makes, read by other code than that which wrote it.

mod apk;
mod lmo;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use tempfile::TempDir;

const BINARY: &[u8] = b"a program";
/// Of `SOURCE_DATE_EPOCH`.
const EPOCH: u64 = 1_700_000_000;
const CONFIG: &str = "etc/config/wanbond";

/// What a file in a package is: mode and content.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Packages of a binary that need not run, for one architecture.
fn packed() -> TempDir {
    let folder = TempDir::new().unwrap();
    let built = folder.path().join("mipsel");
    std::fs::create_dir(&built).unwrap();
    std::fs::write(built.join("wanbond"), BINARY).unwrap();
    let done = Command::new("bash")
        .arg(root().join("cross/package.sh"))
        .arg("--bin")
        .arg(folder.path())
        .arg("--out")
        .arg(folder.path().join("feeds"))
        .arg("mipsel")
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .output()
        .expect("bash runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

fn read(folder: &TempDir, release: &str, name: &str) -> Vec<u8> {
    let path = folder.path().join("feeds").join(release).join("mipsel_24kc").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ipk(folder: &TempDir) -> (String, Vec<u8>) {
    let name = format!("wanbond_{}_mipsel_24kc.ipk", version());
    let content = read(folder, "24.10", &name);
    (name, content)
}

fn apk(folder: &TempDir) -> apk::Database {
    apk::Database::read(&read(folder, "25.12", &format!("wanbond-{}.apk", version())))
}

/// As the feed's Makefile says.
fn version() -> String {
    let makefile = std::fs::read_to_string(root().join("openwrt/wanbond/Makefile")).unwrap();
    let value = |name: &str| {
        let line = makefile.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(":=").to_owned()
    };
    format!("{}-r{}", value("PKG_VERSION"), value("PKG_RELEASE"))
}

/// The members of a gzipped tar; owners, times and order are checked on the way.
fn untar(gzipped: &[u8]) -> Files {
    let mut files = Files::new();
    let mut archive = tar::Archive::new(GzDecoder::new(gzipped));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), EPOCH);
        let mode = header.mode().unwrap();
        let path = entry.path().unwrap().display().to_string();
        let path = path.strip_prefix("./").expect("paths begin with ./").to_owned();
        if entry.header().entry_type().is_dir() {
            assert_eq!(mode, 0o755, "{path}");
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(path, (mode, content));
    }
    files
}

/// The files that every router must get, with their modes.
fn check_tree(files: &Files) {
    for (path, mode) in [
        ("usr/bin/wanbond", 0o755),
        ("etc/init.d/wanbond", 0o755),
        ("etc/uci-defaults/90-wanbond", 0o755),
        (CONFIG, 0o644),
        ("lib/upgrade/keep.d/wanbond", 0o644),
        ("etc/capabilities/wanbond.json", 0o644),
        ("usr/share/nftables.d/chain-pre/forward/wanbond.nft", 0o644),
        ("usr/share/nftables.d/chain-pre/input/wanbond.nft", 0o644),
    ] {
        let (found, _) = files.get(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(*found, mode, "{path}");
    }
    assert_eq!(files["usr/bin/wanbond"].1, BINARY);
    let source = root().join("openwrt/wanbond/files").join(CONFIG);
    assert_eq!(files[CONFIG].1, std::fs::read(source).unwrap());
}

#[test]
fn an_ipk_has_what_opkg_needs() {
    let folder = packed();
    let (_, package) = ipk(&folder);
    let outer = untar(&package);
    assert_eq!(outer["debian-binary"].1, b"2.0\n");
    check_tree(&untar(&outer["data.tar.gz"].1));
    let control = untar(&outer["control.tar.gz"].1);
    let text = String::from_utf8(control["control"].1.clone()).unwrap();
    for line in [
        "Package: wanbond",
        &format!("Version: {}", version()),
        "Depends: libc, firewall4, kmod-tun, kmod-tcp-bbr",
        "Architecture: mipsel_24kc",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
    assert_eq!(control["conffiles"].1, format!("/{CONFIG}\n").as_bytes());
    for script in ["postinst", "postinst-pkg", "prerm", "postrm"] {
        let (mode, content) = &control[script];
        assert_eq!(*mode, 0o755, "{script}");
        parses(content);
    }
}

#[test]
fn an_apk_has_what_apk_needs() {
    let folder = packed();
    let package = apk(&folder);
    assert_eq!(package.schema, "pckg");
    check_tree(&package.files());
    let info = package.info();
    assert_eq!(info["name"], "wanbond");
    assert_eq!(info["version"], version());
    assert_eq!(info["arch"], "mipsel_24kc");
    assert_eq!(package.depends(), ["firewall4", "kmod-tcp-bbr", "kmod-tun", "libc"]);
    let files = package.files();
    let lists = |kind: &str| {
        String::from_utf8(files[&format!("lib/apk/packages/wanbond.{kind}")].1.clone()).unwrap()
    };
    assert!(lists("list").lines().any(|line| line == "/etc/init.d/wanbond"));
    assert_eq!(lists("conffiles"), format!("/{CONFIG}\n"));
    assert!(lists("conffiles_static").starts_with(&format!("/{CONFIG} ")));
    let scripts = package.scripts();
    assert_eq!(scripts.len(), 4, "after install and upgrade, before and after removal");
    let upgraded: Vec<_> = scripts.values().filter(|s| s.contains("PKG_UPGRADE=1")).collect();
    assert_eq!(upgraded.len(), 1);
    assert!(upgraded[0].contains("/etc/init.d/wanbond restart"), "{}", upgraded[0]);
    for script in scripts.values() {
        parses(script.as_bytes());
    }
}

/// opkg calls what runs after a removal at upgrades too.
#[test]
fn removal_leaves_nothing_behind_and_an_upgrade_all() {
    let folder = packed();
    let outer = untar(&ipk(&folder).1);
    let script = untar(&outer["control.tar.gz"].1)["postrm"].1.clone();
    parses(&script);
    let counted = folder.path().join("etc/wanbond/usage.json");
    std::fs::create_dir_all(counted.parent().unwrap()).unwrap();
    std::fs::write(&counted, "{}").unwrap();
    let script = String::from_utf8(script).unwrap();
    for (arguments, kept) in [(["upgrade", "0.2.0-r1"], true), (["remove", ""], false)] {
        let done = Command::new("busybox")
            .args(["ash", "-c", &script, "postrm"])
            .args(arguments)
            .env("IPKG_INSTROOT", folder.path())
            .status()
            .expect("busybox runs");
        assert!(done.success());
        assert_eq!(counted.exists(), kept, "{arguments:?}");
    }
    assert!(!folder.path().join("etc/wanbond").exists());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (first, second) = (packed(), packed());
    assert_eq!(ipk(&first), ipk(&second));
    let name = format!("wanbond-{}.apk", version());
    for (release, name) in [
        ("24.10", "Packages.gz"),
        ("24.10", "sha256sums"),
        ("25.12", &name),
        ("25.12", "packages.adb"),
    ] {
        assert!(read(&first, release, name) == read(&second, release, name), "{name}");
    }
}

#[test]
fn feeds_index_what_they_hold() {
    let folder = packed();
    let (name, package) = ipk(&folder);
    let index = String::from_utf8(read(&folder, "24.10", "Packages")).unwrap();
    for line in [
        format!("Filename: {name}"),
        format!("Size: {}", package.len()),
        format!("SHA256sum: {}", apk::hex(&apk::sha256(&package))),
    ] {
        assert!(index.lines().any(|have| have == line), "{line} in\n{index}");
    }
    // opkg takes the last entry only if a blank line ends it.
    assert!(index.ends_with("\n\n"));
    let index = apk::Database::read(&read(&folder, "25.12", "packages.adb"));
    assert_eq!(index.schema, "indx");
    let package = read(&folder, "25.12", &format!("wanbond-{}.apk", version()));
    let packages = index.packages();
    let listed = packages.iter().find(|listed| listed["name"] == "wanbond").expect("it is listed");
    assert_eq!(listed["file-size"], package.len().to_string());
    assert_eq!(listed["hashes"], apk::hex(&apk::sha256(&apk::first_block(&package))));
}

/// Where LuCI has the application's pages, and rpcd and LuCI what they must know of them.
const PAGES: [&str; 5] = [
    "www/luci-static/resources/view/wanbond/status.js",
    "www/luci-static/resources/view/status/include/25_wanbond.js",
    "www/luci-static/resources/wanbond/style.css",
    "usr/share/luci/menu.d/luci-app-wanbond.json",
    "usr/share/rpcd/acl.d/luci-app-wanbond.json",
];

/// What LuCI's packages must hold, whatever their format.
fn check_pages(files: &Files) {
    for path in PAGES {
        let (mode, content) = files.get(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(*mode, 0o644, "{path}");
        assert!(!content.is_empty(), "{path}");
    }
    let json = |path: &str| serde_json::from_slice::<serde_json::Value>(&files[path].1).unwrap();
    // Every page of the menu is there, under a right that is granted.
    let rights = json(PAGES[4]);
    for (path, entry) in json(PAGES[3]).as_object().unwrap() {
        for group in entry["depends"]["acl"].as_array().unwrap() {
            assert!(rights.get(group.as_str().unwrap()).is_some(), "{path}: {group}");
        }
        if entry["action"]["type"] == "view" {
            let view = entry["action"]["path"].as_str().unwrap();
            assert!(files.contains_key(&format!("www/luci-static/resources/view/{view}.js")));
        }
    }
}

#[test]
fn pages_for_luci_are_packages_for_all_architectures() {
    let folder = packed();
    let outer = untar(&read(&folder, "24.10", &format!("luci-app-wanbond_{}_all.ipk", version())));
    check_pages(&untar(&outer["data.tar.gz"].1));
    let control = untar(&outer["control.tar.gz"].1);
    let text = String::from_utf8(control["control"].1.clone()).unwrap();
    for line in
        ["Package: luci-app-wanbond", "Depends: libc, luci-base, wanbond", "Architecture: all"]
    {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
    // Else the pages are there and may do nothing until the next start.
    let after = String::from_utf8(control["postinst-pkg"].1.clone()).unwrap();
    assert!(after.contains("/etc/init.d/rpcd reload"), "{after}");
    parses(after.as_bytes());

    let package = read(&folder, "25.12", &format!("luci-app-wanbond-{}.apk", version()));
    let package = apk::Database::read(&package);
    check_pages(&package.files());
    assert_eq!(package.info()["arch"], "noarch");
    assert_eq!(package.depends(), ["libc", "luci-base", "wanbond"]);
    for script in package.scripts().values() {
        parses(script.as_bytes());
    }
    let after = package.scripts().values().filter(|s| s.contains("rpcd reload")).count();
    assert_eq!(after, 2, "after install and upgrade");
}

#[test]
fn translations_are_packages_that_luci_reads() {
    let folder = packed();
    for (language, word, translated) in [
        ("de", "Throughput", "Durchsatz"),
        ("fr", "Throughput", "Débit"),
        ("de", "7 days", "7 Tage"),
    ] {
        let name = format!("luci-i18n-wanbond-{language}");
        let outer = untar(&read(&folder, "24.10", &format!("{name}_{}_all.ipk", version())));
        let files = untar(&outer["data.tar.gz"].1);
        let lmo = &files[&format!("usr/lib/lua/luci/i18n/wanbond.{language}.lmo")].1;
        assert_eq!(lmo::lookup(lmo, word.as_bytes()).as_deref(), Some(translated));
        assert_eq!(lmo::lookup(lmo, b"no such message"), None);
        // Forms for numbers are looked up by their number.
        let many = lmo::lookup(lmo, b"All is well. %d link works.\x021").unwrap();
        assert!(many.contains("%d"), "{many}");
        parses(&[b"#!/bin/sh\n", &files[&format!("etc/uci-defaults/{name}")].1[..]].concat());
        let package =
            apk::Database::read(&read(&folder, "25.12", &format!("{name}-{}.apk", version())));
        assert_eq!(package.info()["arch"], "noarch");
        assert_eq!(package.depends(), ["libc", "luci-app-wanbond"]);
    }
}

#[test]
fn too_large_a_package_is_refused() {
    let folder = TempDir::new().unwrap();
    let built = folder.path().join("mipsel");
    std::fs::create_dir(&built).unwrap();
    // Bytes that don't compress: a counter's digests.
    let noise: Vec<u8> = (0..50_000u32).flat_map(|n| apk::sha256(&n.to_le_bytes())).collect();
    std::fs::write(built.join("wanbond"), noise).unwrap();
    let done = Command::new("bash")
        .arg(root().join("cross/package.sh"))
        .args(["--bin", &folder.path().display().to_string()])
        .args(["--out", &folder.path().join("feeds").display().to_string(), "mipsel"])
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .output()
        .expect("bash runs");
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("its budget is"), "{said}");
}

/// Whether a shell understands the script.
fn parses(script: &[u8]) {
    assert!(script.starts_with(b"#!/bin/sh\n"));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("script");
    std::fs::write(&path, script).unwrap();
    let done = Command::new("sh").arg("-n").arg(&path).status().expect("sh runs");
    assert!(done.success(), "{}", String::from_utf8_lossy(script));
}
