//! Figures beside what they must not pass, one a line.

use std::fmt::Display;
use std::process::ExitCode;

use wanbond_lab::traffic::Series;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    about: String,
    missed: usize,
    known: usize,
    held: usize,
}

impl Report {
    /// What the following lines are about.
    pub(crate) fn about(&mut self, what: &str) {
        println!("--- {what}");
        what.clone_into(&mut self.about);
    }

    /// A figure for people.
    pub(crate) fn note(&self, what: &str, value: impl Display) {
        println!("       {what}: {value}");
    }

    /// A figure that must not be above `most`.
    pub(crate) fn at_most(&mut self, what: &str, value: f64, most: f64, unit: &str) {
        let text = format!("{value:.0} {unit} (at most {most:.0})");
        self.verdict(value <= most, what, &text, |known| value <= known);
    }

    /// A figure that must not be below `least`.
    pub(crate) fn at_least(&mut self, what: &str, value: f64, least: f64) {
        let text = format!("{value:.2} (at least {least:.2})");
        self.verdict(value >= least, what, &text, |known| value >= known);
    }

    /// Something that must be so.
    pub(crate) fn must(&mut self, what: &str, so: bool, seen: impl Display) {
        self.verdict(so, what, &seen.to_string(), |_| false);
    }

    fn verdict(&mut self, held: bool, what: &str, text: &str, within: impl Fn(f64) -> bool) {
        let fits = |miss: &&KnownMiss| {
            self.about.ends_with(miss.about) && what.ends_with(miss.what) && within(miss.until)
        };
        let known = KNOWN_MISSES.iter().filter(|_| !held).find(fits);
        let word = match (held, known) {
            (true, _) => {
                self.held += 1;
                "ok    "
            }
            (false, Some(_)) => {
                self.known += 1;
                "KNOWN "
            }
            (false, None) => {
                self.missed += 1;
                "MISSED"
            }
        };
        println!("{word} {what}: {text}");
        if let Some(known) = known {
            println!("       {}", known.why);
        }
    }

    /// The last line, and how the program ends.
    pub(crate) fn finish(&self) -> ExitCode {
        println!("{} held, {} missed as known, {} missed", self.held, self.known, self.missed);
        if self.missed == 0 && self.held > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A promise that is not kept yet.
#[derive(Debug)]
struct KnownMiss {
    /// The end of what it is about.
    about: &'static str,
    /// The end of the figure's name.
    what: &'static str,
    /// Beyond this it is a failure all the same.
    until: f64,
    /// What is known of the reason.
    why: &'static str,
}

const KNOWN_MISSES: &[KnownMiss] = &[
    KnownMiss {
        about: "mptcp",
        what: "cut, TCP silent",
        until: 600.0,
        why: "0.2 to 0.3 s as a rule; the server's kernel knows 0.2 to 0.5 s after the cut, and what it sends \
              again waits in the other WAN's queue",
    },
    KnownMiss {
        about: "mptcp",
        what: "cut, UDP silent",
        until: 250.0,
        why: "the tunnel leaves a WAN as soon as it is known to be gone, at times a little late",
    },
    KnownMiss {
        about: "mptcp",
        what: "upload, share of the sum",
        until: 0.40,
        why: "after a long download, now and then, half the rate for some 15 s",
    },
    KnownMiss {
        about: "mptcp",
        what: "back, share of the sum in the end",
        until: 0.40,
        why: "seen on 6.1: as after a long download",
    },
];

/// For people to see what happened when.
pub(crate) fn by_half_seconds(series: &Series) -> String {
    let rates = series.0.chunks(5).map(|steps| float(steps.iter().sum::<u64>()) * 16.0 / 1e6);
    rates.map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(" ")
}

/// For a share or a rate.
#[expect(clippy::cast_precision_loss, reason = "a statistic")]
pub(crate) const fn float(number: u64) -> f64 {
    number as f64
}
