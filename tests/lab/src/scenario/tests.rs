//! Scenario files, good and bad.

use super::*;
use crate::emulator::QueueLimit;

#[test]
fn every_built_in_scenario_is_sound_and_named_like_its_file() {
    for (name, _) in BUILT_IN {
        assert_eq!(Scenario::named(name).unwrap().name, *name);
    }
}

#[test]
fn the_two_of_the_benchmarks_are_as_written_there() {
    assert_eq!(Scenario::named("adsl").unwrap().total_rates(), Some((17_170_000, 1_530_000)));
    let lte = Scenario::named("fibre-lte").unwrap();
    assert_eq!(lte.total_rates(), Some((140_000_000, 30_000_000)));
    assert_eq!(lte.wan[1].up.loss.get(), 0.003);
    assert_eq!(lte.wan[1].down.jitter, Duration::from_millis(5));
}

#[test]
fn a_scenario_survives_being_written() {
    for (name, _) in BUILT_IN {
        let scenario = Scenario::named(name).unwrap();
        let text = toml::to_string(&scenario).unwrap();
        assert_eq!(Scenario::parse(&text, Path::new("x")).unwrap(), scenario);
    }
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("name = 'x'\nwan = []", "needs a WAN"),
        ("name = 'x'\n[[wan]]\nname = 'a b'", "device's name"),
        ("name = 'x'\n[[wan]]\nname = 'a'\n[[wan]]\nname = 'a'", "two WANs"),
        ("name = 'x'\n[[wan]]\nname = 'a'\nrouter = 1", "router 1"),
        ("name = 'x'\n[[wan]]\nname = 'a'\nspeed = 1", "unknown field"),
        ("name = 'x'\n[[wan]]\nname = 'a'\ndown = { rate = 'quick' }", "a rate such as"),
        ("name = 'x'\n[[wan]]\nname = 'a'\nveth = true\ncut = true", "can't be shaped"),
        ("name = 'x'\n[[wan]]\nname = 'a'\n[[event]]\nat = '1 s'\nwan = 'b'\ndo = 'cut'", "no WAN"),
    ];
    for (text, wanted) in cases {
        let error = Scenario::parse(text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_timeline_is_in_order_and_repeats() {
    let text = "name = 'x'\n[[wan]]\nname = 'a'\n\
        [[event]]\nat = '3 s'\nevery = '4 s'\nwan = 'a'\ndo = 'restore'\n\
        [[event]]\nat = '2 s'\nevery = '4 s'\nwan = 'a'\ndo = 'cut'\n";
    let scenario = Scenario::parse(text, Path::new("x")).unwrap();
    let times: Vec<_> = scenario
        .timeline(Duration::from_secs(8))
        .iter()
        .map(|(at, e)| (at.as_secs(), e.action))
        .collect();
    assert_eq!(
        times,
        [(2, Action::Cut), (3, Action::Restore), (6, Action::Cut), (7, Action::Restore)]
    );
}

#[test]
fn the_command_line_changes_what_it_names() {
    let mut change = ShapeChange::default();
    change.set("rate", "5 Mbit/s").unwrap();
    change.set("queue", "64 KiB").unwrap();
    assert!(change.set("colour", "red").is_err());
    let shape = change.apply(Shape { delay: Duration::from_millis(7), ..Shape::default() });
    assert_eq!(shape.rate, Some(Rate::from_bits_per_second(5_000_000)));
    assert_eq!(shape.queue, QueueLimit::Bytes(65_536));
    assert_eq!(shape.delay, Duration::from_millis(7));
}
