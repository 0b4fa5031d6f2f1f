//! Everything that a configuration puts into the router's kernel, as text: routes, rules, nftables,
//! MPTCP endpoints, settings. `WANBOND_GOLDEN_WRITE=1` writes it anew.

use std::collections::BTreeSet;
use std::path::Path;

use wanbond_e2e::{QUICK, all_up, lab, wait_until};

const BYPASSES: &str = "\nconfig bypass 'console'\n\tlist mac '02:11:22:aa:bb:cc'\n\toption to 'wan:wan1'\n\toption fallback 'none'\n\
     config bypass 'work'\n\tlist destination '203.0.113.128/25'\n\toption protocol 'udp'\n\toption port '500 4500'\n\toption to 'tunnel'\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_configuration_puts_into_the_kernel() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.extra = BYPASSES.into();
    config.when_server_down = "block".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt");
    let there = || {
        let mut lines = BTreeSet::new();
        for line in lab.router(0).kernel_changes().unwrap() {
            // Link-local addresses are the kernel's choice; of our own device it tells much else.
            if !["fe80:", "wanbond0:"].iter().any(|word| line.contains(word)) {
                let words: Vec<_> = line.trim_end().split(' ').map(without_key).collect();
                lines.insert(words.join(" "));
            }
        }
        lines
    };
    if std::env::var_os("WANBOND_GOLDEN_WRITE").is_some() {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let text: String = there().iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap();
    let wanted: BTreeSet<_> = wanted.lines().map(str::to_owned).collect();
    // The last pieces come once the server has said more.
    let mut last = BTreeSet::new();
    wait_until_or(&mut last, &wanted, there).await;
    let lacking: Vec<_> = wanted.difference(&last).collect();
    let unknown: Vec<_> = last.difference(&wanted).collect();
    assert!(last == wanted, "lacking: {lacking:#?}\nunknown: {unknown:#?}");
}

/// What the addresses of the LAN begin with.
const LAN: &str = "fd00:77";

/// The inner network over IPv6 is made of the server's key.
fn without_key(word: &str) -> String {
    match word.split_once("::") {
        Some((network, rest)) if network.starts_with("fd") && !network.starts_with(LAN) => {
            format!("INNER::{rest}")
        }
        _ => word.to_owned(),
    }
}

/// Waits until it is as wanted, or for long.
async fn wait_until_or(
    last: &mut BTreeSet<String>,
    wanted: &BTreeSet<String>,
    there: impl Fn() -> BTreeSet<String>,
) {
    let start = std::time::Instant::now();
    wait_until("it is looked at", || {
        *last = there();
        *last == *wanted || start.elapsed() > std::time::Duration::from_secs(20)
    })
    .await;
}
