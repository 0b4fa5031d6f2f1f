//! The demo's result as a table for people.

use std::fmt::Write as _;

use super::{Outcome, Row};

/// The whole table of one scenario.
pub(crate) fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{}: {}", outcome.scenario, outcome.description);
    if let Some(sum) = outcome.sum_mbit {
        let _ = writeln!(text, "the lines' rates together: {sum:.2} Mbit/s of IP packets");
    }
    let width = outcome.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "\n  {:width$}  {:>8}  {:>10}  {:>9}  {:>9}  {:>17}  bytes",
        "", "Mbit/s", "of the sum", "× better", "silence", "first byte"
    );
    for row in &outcome.rows {
        let _ = writeln!(text, "  {}", line(row, width));
    }
    for line in &outcome.remarks {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn line(row: &Row, width: usize) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let setup = row.first_byte_ms.map(|ms| match row.first_byte_rtts {
        Some(rtts) => format!("{rtts:.2} RTT {ms:5.0} ms"),
        None => format!("{ms:.0} ms"),
    });
    format!(
        "{:width$}  {:>8}  {:>10}  {:>9}  {:>9}  {:>17}  {}",
        row.name,
        or_dash(row.mbit.map(|mbit| format!("{mbit:.2}"))),
        or_dash(row.share.map(|share| format!("{:.0} %", share * 100.0))),
        or_dash(row.ratio.map(|ratio| format!("{ratio:.2}"))),
        or_dash(row.silence_ms.map(|ms| format!("{:.2} s", ms / 1e3))),
        or_dash(setup),
        row.verdict,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = Row {
            name: "wanbond".into(),
            mbit: Some(15.9),
            share: Some(0.926),
            ratio: Some(1.91),
            silence_ms: Some(43.0),
            first_byte_ms: Some(42.0),
            first_byte_rtts: Some(1.05),
            verdict: "all right".into(),
        };
        let empty = Row { name: "x".into(), ..Row::default() };
        let at =
            |line: &str| line.chars().count() - line.split("  ").last().unwrap().chars().count();
        assert_eq!(at(&line(&row, 9)), at(&line(&Row { verdict: "?".into(), ..empty }, 9)));
    }
}
