//! What is seen while a download runs: a block of bars on a terminal, else a line each second.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::emulator::LinkReport;
use crate::lab::Lab;
use crate::traffic::STEP;

/// Bytes towards the router per [`STEP`], WAN by WAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) wans: Vec<(String, Vec<u64>)>,
}

impl Trace {
    /// The share of all bytes that each WAN carried.
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub(crate) fn shares(&self) -> Vec<f64> {
        let sums: Vec<u64> = self.wans.iter().map(|(_, bytes)| bytes.iter().sum()).collect();
        let total = sums.iter().sum::<u64>().max(1);
        sums.iter().map(|sum| *sum as f64 / total as f64).collect()
    }
}

/// Samples the WANs' counters until `done`, showing them under `title`.
pub(crate) async fn watch(lab: &Lab, title: &str, expect: Duration, done: &AtomicBool) -> Trace {
    let mut screen = Screen::new(lab, title, expect);
    let start = Instant::now();
    let mut samples = vec![(Duration::ZERO, downs(lab))];
    let mut next = start;
    while !done.load(Ordering::Relaxed) {
        next += STEP;
        tokio::time::sleep_until(next.into()).await;
        let at = start.elapsed();
        samples.push((at, downs(lab)));
        // On a terminal the last half second, in a log the whole second since the last line.
        let first = samples.len().saturating_sub(1 + if screen.terminal { SMOOTH } else { 10 });
        let cut: Vec<_> =
            lab.wans().map(|wan| wan.counters().is_ok_and(|c: LinkReport| c.cut)).collect();
        screen.show(at, &rates(&samples[first..]), &cut);
    }
    screen.finish(start.elapsed());
    let bytes = |wan: usize| resample(samples.iter().map(|(at, sums)| (*at, sums[wan])));
    Trace {
        wans: lab.wans().enumerate().map(|(i, wan)| (wan.name().to_owned(), bytes(i))).collect(),
    }
}

/// Mbit/s of each WAN between the first and the last sample.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn rates(samples: &[(Duration, Vec<u64>)]) -> Vec<f64> {
    let (Some((from, before)), Some((to, now))) = (samples.first(), samples.last()) else {
        return Vec::new();
    };
    let time = (*to - *from).as_secs_f64().max(1e-3);
    let mbit = |(now, before): (&u64, &u64)| now.saturating_sub(*before) as f64 * 8e-6 / time;
    now.iter().zip(before).map(mbit).collect()
}

/// Bytes per whole [`STEP`] out of running sums, which were read a little late on a busy machine:
/// between two readings the bytes are taken to have come evenly.
fn resample(sums: impl Iterator<Item = (Duration, u64)>) -> Vec<u64> {
    let mut steps = Vec::new();
    let mut edge = STEP;
    let (mut last_at, mut last_sum) = (Duration::ZERO, None);
    let mut given = 0;
    for (at, sum) in sums {
        let before = *last_sum.get_or_insert_with(|| {
            given = sum;
            sum
        });
        while edge <= at {
            let share = (edge - last_at).as_nanos() * u128::from(sum.saturating_sub(before));
            let share = share / (at - last_at).as_nanos().max(1);
            let until = before + u64::try_from(share).unwrap_or(0);
            steps.push(until.saturating_sub(given));
            given = until;
            edge += STEP;
        }
        (last_at, last_sum) = (at, Some(sum));
    }
    steps
}

fn downs(lab: &Lab) -> Vec<u64> {
    lab.wans().map(|wan| wan.counters().map_or(0, |report| report.down.bytes_out)).collect()
}

/// Width of a bar in characters.
const BAR: usize = 36;
/// Samples a shown rate is the mean of: half a second.
const SMOOTH: usize = 5;

struct Screen {
    title: String,
    names: Vec<String>,
    /// Mbit/s of a full bar, per WAN.
    full: Vec<f64>,
    expect: Duration,
    terminal: bool,
    colour: bool,
    drawn: usize,
    steps: usize,
}

impl Screen {
    fn new(lab: &Lab, title: &str, expect: Duration) -> Self {
        let terminal =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let full = lab.wans().map(|wan| wan.spec().down.rate.map_or(1000.0, |rate| rate.mbit()));
        let mut out = std::io::stdout();
        if !terminal {
            let _ = writeln!(out, "{title}");
        }
        Self {
            title: title.into(),
            names: lab.wans().map(|wan| wan.name().to_owned()).collect(),
            full: full.collect(),
            expect,
            terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
            drawn: 0,
            steps: 0,
        }
    }

    fn show(&mut self, at: Duration, rates: &[f64], cut: &[bool]) {
        self.steps += 1;
        let text = if self.terminal {
            if !self.steps.is_multiple_of(2) {
                return;
            }
            self.block(at, rates, cut)
        } else {
            if !self.steps.is_multiple_of(10) {
                return;
            }
            self.line(at, rates, cut)
        };
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    fn line(&self, at: Duration, rates: &[f64], cut: &[bool]) -> String {
        let mut line = format!("  {:>4.0} s", at.as_secs_f64());
        for ((name, rate), cut) in self.names.iter().zip(rates).zip(cut) {
            let state = if *cut { " (cut)" } else { "" };
            let _ = write!(line, "   {name} {rate:6.2}{state}");
        }
        let _ = writeln!(line, "   together {:6.2} Mbit/s", rates.iter().sum::<f64>());
        line
    }

    fn block(&mut self, at: Duration, rates: &[f64], cut: &[bool]) -> String {
        let width = self.names.iter().map(String::len).max().unwrap_or(0).max("together".len());
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        let done = at.as_secs_f64() / self.expect.as_secs_f64().max(0.1);
        let _ = writeln!(
            text,
            "\x1b[2K{}{}{}  {:.1} s  {}",
            self.paint("1"),
            self.title,
            self.paint("0"),
            at.as_secs_f64(),
            bar(done, 20)
        );
        for (index, rate) in rates.iter().enumerate() {
            let colour = ["34", "33", "32", "35", "36"][index % 5];
            let note = if cut[index] {
                format!("{}cut{}", self.paint("31;1"), self.paint("0"))
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "\x1b[2K  {:<width$} {}{}{} {rate:7.2} Mbit/s {note}",
                self.names[index],
                self.paint(colour),
                bar(rate / self.full[index], BAR),
                self.paint("0"),
            );
        }
        let sum: f64 = rates.iter().sum();
        let full: f64 = self.full.iter().sum();
        let _ = writeln!(
            text,
            "\x1b[2K  {:<width$} {} {sum:7.2} Mbit/s",
            "together",
            bar(sum / full, BAR)
        );
        self.drawn = rates.len() + 2;
        text
    }

    fn paint(&self, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m") } else { String::new() }
    }

    fn finish(&self, at: Duration) {
        if !self.terminal {
            let mut out = std::io::stdout();
            let _ = writeln!(out, "  ended after {:.1} s", at.as_secs_f64());
        }
    }
}

/// A bar that fills with eighths of a character.
fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and a line's width"
    )]
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let text = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    let used = eighths.div_ceil(8);
    text + &"·".repeat(width - used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_readings_don_t_move_bytes() {
        // A steady 1000 bytes per step, read at odd times.
        let read = |ms: u64| (Duration::from_millis(ms), 500 + ms * 10);
        let steps = resample([0, 100, 230, 300, 480, 505].map(read).into_iter());
        assert_eq!(steps, [1000; 5]);
    }

    #[test]
    fn a_bar_is_always_as_wide_as_asked() {
        for percent in 0_u8..=120 {
            let bar = bar(f64::from(percent) / 100.0, 10);
            assert_eq!(bar.chars().count(), 10, "{bar}");
        }
        assert_eq!(bar(0.55, 4), "██▎·");
    }
}
