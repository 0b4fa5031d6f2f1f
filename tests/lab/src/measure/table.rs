//! Figures as a table for people.

use std::fmt::Write as _;

use super::{Aim, Figure, Report};

/// The whole table of one report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\n{}, TCP {}; the links were late by {:.1} ms at worst",
        report.scenario, report.tcp, report.late_ms
    );
    let width =
        report.figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or_default();
    for figure in &report.figures {
        let _ = writeln!(text, "{}", line(figure, width));
    }
    text
}

fn line(figure: &Figure, width: usize) -> String {
    let mut sorted = figure.values.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let (least, most) = (sorted.first(), sorted.last());
    let number = |value: f64| match figure.unit {
        "" => format!("{value:.3}"),
        "s" | "%" => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    };
    let range = match (least, most) {
        (Some(least), Some(most)) if sorted.len() > 1 => {
            format!("({} … {})", number(*least), number(*most))
        }
        _ => String::new(),
    };
    let (aim, verdict) = match figure.aim {
        None => (String::new(), ""),
        Some(Aim::AtLeast(aim)) => (format!("≥ {}", number(aim)), missed(median < aim)),
        Some(Aim::AtMost(aim)) => (format!("≤ {}", number(aim)), missed(median > aim)),
    };
    format!(
        "  {:width$}  {:>8} {:9} {range:>20}  {aim:10} {verdict}",
        figure.name,
        number(median),
        figure.unit
    )
    .trim_end()
    .to_owned()
}

const fn missed(missed: bool) -> &'static str {
    if missed { "missed" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_median_and_says_what_is_missed() {
        let figure = Figure {
            name: "gap".into(),
            unit: "ms",
            aim: Some(Aim::AtMost(400.0)),
            values: vec![500.0, 300.0, 410.0],
        };
        let text = line(&figure, 3);
        assert!(text.contains("410 ms") && text.ends_with("missed"), "{text}");
        assert!(text.contains("(300 … 500)") && text.contains("≤ 400"), "{text}");
        let met = Figure { values: vec![1.0], ..figure };
        assert!(!line(&met, 3).contains("missed"));
    }
}
