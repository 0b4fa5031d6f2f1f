//! The plot: throughput per WAN and of all over time, as an SVG that suits light and dark pages.

use std::fmt::Write as _;

use super::live::Trace;
use crate::traffic::STEP;

/// What a plot shows.
#[derive(Debug)]
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) trace: &'a Trace,
    /// Payload as the application got it, per step.
    pub(crate) goodput: &'a [u64],
    /// When which WAN was cut, and when it came back: name, seconds, seconds.
    pub(crate) cut: Option<(&'a str, f64, f64)>,
    /// The sum of the lines' rates in Mbit/s.
    pub(crate) sum: Option<f64>,
}

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 52.0;
/// Steps that are drawn as one point: 0.3 s, so that single packets of slow lines don't make teeth.
const GROUP: usize = 3;
/// The same for the payload, which comes in gusts: what arrives early over one line waits for what
/// is late on the other.
const PAYLOAD_GROUP: usize = 10;

/// Colours by their role; dark pages get lighter ones.
const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .title { font-size: 16px; font-weight: 600 }
  .grid { stroke: #ddd } .axis { stroke: #888 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round }
  .w0 { stroke: #0b6bcb } .w1 { stroke: #c77700 } .w2 { stroke: #2a8a3a } .w3 { stroke: #8a3ab9 }
  .all { stroke: #222; stroke-width: 2.5 } .app { stroke: #888; stroke-dasharray: 2 3 }
  .sum { stroke: #999; stroke-dasharray: 7 5 } .cut { fill: #d33; opacity: .12 } .cuttext { fill: #b22 }
  .back { fill: #fff }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } .grid { stroke: #383838 } .axis { stroke: #999 } .back { fill: #161616 }
    .w0 { stroke: #5eb0ff } .w1 { stroke: #ffb347 } .w2 { stroke: #6fd07f } .w3 { stroke: #cf8bff }
    .all { stroke: #f4f4f4 } .app { stroke: #999 } .cuttext { fill: #ff8a8a } .cut { opacity: .25 }
  }
";

impl Plot<'_> {
    /// The whole SVG document.
    pub(crate) fn to_svg(&self) -> String {
        let steps = self.trace.wans.first().map_or(0, |(_, bytes)| bytes.len());
        let seconds = seconds(steps).max(1.0);
        let all: Vec<u64> = (0..steps)
            .map(|step| self.trace.wans.iter().map(|(_, bytes)| bytes[step]).sum())
            .collect();
        let peak = rates(&all, GROUP).into_iter().fold(self.sum.unwrap_or(1.0), f64::max);
        let frame = Frame { seconds, top: nice_above(peak) };

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
             <rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"26\">{title}</text>\n",
            title = escape(self.title)
        );
        frame.axes(&mut svg);
        if let Some((name, from, to)) = self.cut {
            let (x, end) = (frame.x(from), frame.x(to.min(seconds)));
            let _ = write!(
                svg,
                "<rect class=\"cut\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\n\
                 <text class=\"cuttext\" x=\"{:.1}\" y=\"{:.1}\">{} cut</text>\n",
                end - x,
                HEIGHT - TOP - BOTTOM,
                x + 6.0,
                TOP + 16.0,
                escape(name)
            );
        }
        if let Some(sum) = self.sum {
            let y = frame.y(sum);
            let _ = writeln!(
                svg,
                "<line class=\"sum\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            );
        }
        frame.curve(&mut svg, "app", self.goodput, PAYLOAD_GROUP);
        for (index, (_, bytes)) in self.trace.wans.iter().enumerate() {
            frame.curve(&mut svg, &format!("w{}", index % 4), bytes, GROUP);
        }
        frame.curve(&mut svg, "all", &all, GROUP);
        self.legend(&mut svg);
        svg + "</svg>\n"
    }

    fn legend(&self, svg: &mut String) {
        let mut entries: Vec<(String, String)> = self
            .trace
            .wans
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (format!("w{}", index % 4), name.clone()))
            .collect();
        entries.push(("all".into(), "together".into()));
        entries.push(("app".into(), "payload".into()));
        if self.sum.is_some() {
            entries.push(("sum".into(), "sum of the lines".into()));
        }
        let mut x = LEFT;
        for (class, name) in entries {
            let _ = write!(
                svg,
                "<line class=\"line {class}\" x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"48\" y2=\"48\"/>\n\
                 <text x=\"{:.1}\" y=\"52\">{}</text>\n",
                x + 26.0,
                x + 32.0,
                escape(&name)
            );
            // About 7.5 px a letter; SVG can't measure text by itself.
            x += 56.0 + 7.5 * seconds_free(name.chars().count());
        }
    }
}

struct Frame {
    seconds: f64,
    top: f64,
}

impl Frame {
    fn x(&self, second: f64) -> f64 {
        LEFT + second / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, mbit: f64) -> f64 {
        HEIGHT - BOTTOM - mbit / self.top * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in marks(self.top, 5.0) {
            let y = self.y(mark);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>\n",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for mark in marks(self.seconds, 10.0) {
            let x = self.x(mark);
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}</text>\n",
                bottom + 5.0,
                bottom + 20.0
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">time in seconds</text>\n\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">Mbit/s</text>\n",
            f64::midpoint(LEFT, right),
            HEIGHT - 12.0,
            f64::midpoint(TOP, bottom)
        );
    }

    fn curve(&self, svg: &mut String, class: &str, bytes: &[u64], group: usize) {
        let half = seconds(group) / 2.0;
        let points: Vec<_> = rates(bytes, group)
            .into_iter()
            .enumerate()
            .map(|(index, mbit)| {
                let at = (seconds(index * group) + half).min(self.seconds);
                format!("{:.1},{:.1}", self.x(at), self.y(mbit.min(self.top)))
            })
            .collect();
        let _ = writeln!(svg, "<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" "));
    }
}

/// Mbit/s of each whole group of steps.
#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn rates(bytes: &[u64], group: usize) -> Vec<f64> {
    let rate = |group: &[u64]| group.iter().sum::<u64>() as f64 * 8.0 / 1e6 / seconds(group.len());
    bytes.chunks_exact(group).map(rate).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn seconds(steps: usize) -> f64 {
    steps as f64 * STEP.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a plot")]
const fn seconds_free(count: usize) -> f64 {
    count as f64
}

/// Round marks from 0 to `top`, about as many as wanted.
fn marks(top: f64, wanted: f64) -> Vec<f64> {
    let step = nice_above(top / wanted);
    let mut marks = vec![0.0];
    while let Some(next) = marks.last().map(|last| last + step).filter(|next| *next <= top * 1.001)
    {
        marks.push(next);
    }
    marks
}

/// The next of 1, 2, 2.5, 5, 10 … at or above.
fn nice_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 4.0, 5.0, 7.5, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(value)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_reach_the_top() {
        assert_eq!(marks(20.0, 5.0), [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]);
        assert!((nice_above(17.17) - 20.0).abs() < 1e-9);
        assert!((nice_above(140.0) - 150.0).abs() < 1e-9);
    }

    #[test]
    fn every_line_is_in_the_picture_and_names_are_escaped() {
        let trace =
            Trace { wans: vec![("a&b".into(), vec![1000; 30]), ("c".into(), vec![2000; 30])] };
        let plot = Plot {
            title: "x < y",
            trace: &trace,
            goodput: &[1500; 30],
            cut: Some(("c", 1.0, 2.0)),
            sum: Some(1.0),
        };
        let svg = plot.to_svg();
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains("a&amp;b") && svg.contains("x &lt; y") && svg.contains("c cut"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
