//! What is seen while a download runs: a block of bars on a terminal, else a line each second.

use std::collections::VecDeque;
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
    let names: Vec<_> = lab.wans().map(|wan| wan.name().to_owned()).collect();
    let mut trace = Trace { wans: names.into_iter().map(|name| (name, Vec::new())).collect() };
    let mut screen = Screen::new(lab, title, expect);
    let mut before = downs(lab);
    let start = Instant::now();
    let mut next = start;
    while !done.load(Ordering::Relaxed) {
        next += STEP;
        tokio::time::sleep_until(next.into()).await;
        let now = downs(lab);
        let step: Vec<u64> = now.iter().zip(&before).map(|(n, b)| n.saturating_sub(*b)).collect();
        for ((_, bytes), new) in trace.wans.iter_mut().zip(&step) {
            bytes.push(*new);
        }
        before = now;
        let cut: Vec<_> =
            lab.wans().map(|wan| wan.counters().is_ok_and(|c: LinkReport| c.cut)).collect();
        screen.show(start.elapsed(), step, &cut);
    }
    screen.finish(start.elapsed());
    trace
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
    recent: VecDeque<Vec<u64>>,
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
            recent: VecDeque::new(),
            steps: 0,
        }
    }

    fn show(&mut self, at: Duration, step: Vec<u64>, cut: &[bool]) {
        // On a terminal the last half second, in a log the whole second since the last line.
        let keep = if self.terminal { SMOOTH } else { 10 };
        self.recent.push_back(step);
        while self.recent.len() > keep {
            self.recent.pop_front();
        }
        self.steps += 1;
        let text = if self.terminal {
            if !self.steps.is_multiple_of(2) {
                return;
            }
            self.block(at, cut)
        } else {
            if !self.steps.is_multiple_of(10) {
                return;
            }
            self.line(at, cut)
        };
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn rates(&self) -> Vec<f64> {
        let time = self.recent.len().max(1) as f64 * STEP.as_secs_f64();
        let sum = |index: usize| self.recent.iter().map(|step| step[index]).sum::<u64>() as f64;
        (0..self.names.len()).map(|index| sum(index) * 8.0 / 1e6 / time).collect()
    }

    fn line(&self, at: Duration, cut: &[bool]) -> String {
        let rates = self.rates();
        let mut line = format!("  {:>4.0} s", at.as_secs_f64());
        for ((name, rate), cut) in self.names.iter().zip(&rates).zip(cut) {
            let state = if *cut { " (cut)" } else { "" };
            let _ = write!(line, "   {name} {rate:6.2}{state}");
        }
        let _ = writeln!(line, "   together {:6.2} Mbit/s", rates.iter().sum::<f64>());
        line
    }

    fn block(&mut self, at: Duration, cut: &[bool]) -> String {
        let rates = self.rates();
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
    fn a_bar_is_always_as_wide_as_asked() {
        for percent in 0_u8..=120 {
            let bar = bar(f64::from(percent) / 100.0, 10);
            assert_eq!(bar.chars().count(), 10, "{bar}");
        }
        assert_eq!(bar(0.55, 4), "██▎·");
    }
}
