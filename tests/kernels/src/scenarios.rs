//! The links.

use anyhow::Result;
use wanbond_lab::scenario::Scenario;

/// Those of our own.
pub(crate) const NAMES: [&str; 1] = ["20+10"];

/// Two unlike lines, the same both ways: what the emulated processor carries with ease.
const TWENTY_TEN: &str = r#"
name = "20+10"
[[wan]]
name = "fast"
down = { rate = "20 Mbit/s", delay = "10 ms", queue = "100 ms" }
up = { rate = "20 Mbit/s", delay = "10 ms", queue = "100 ms" }
[[wan]]
name = "slow"
down = { rate = "10 Mbit/s", delay = "30 ms", queue = "100 ms" }
up = { rate = "10 Mbit/s", delay = "30 ms", queue = "100 ms" }
"#;

/// One of ours, or of the lab's, all its links the kernel's. Netem's jitter lets packets overtake one
/// another, which lines don't: it is left out.
pub(crate) fn named(name: &str) -> Result<Scenario> {
    let mut scenario = match name {
        "20+10" => Scenario::parse(TWENTY_TEN, "20+10".as_ref())?,
        name => Scenario::named(name)?,
    };
    for wan in &mut scenario.wan {
        wan.netem = true;
        for shape in [&mut wan.down, &mut wan.up] {
            shape.jitter = std::time::Duration::ZERO;
        }
    }
    scenario.check()?;
    Ok(scenario)
}
