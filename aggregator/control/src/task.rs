//! Long jobs: begun by a request, watched and cancelled by its number, with a report at the end.
//!
//! `{"id":1,"kind":"speedtest","result":null,"state":"running","progress":0.4,"step":"fibre,
//! download","error":""}`; once `state` is `done`, `result` is the report of that kind. There is one
//! job at a time; the last one's document is kept until the next begins.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::drill::DrillReport;
use crate::pairing::PairingReport;
use crate::speed::SpeedReport;
use crate::words::TaskState;

/// A long job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// Its number, counting from 1 at the daemon's start.
    pub id: u32,
    /// What it does, and its report once it is done.
    #[serde(flatten)]
    pub work: Work,
    /// Whether it still runs.
    pub state: TaskState,
    /// How much of it is done, from 0 to 1.
    pub progress: f64,
    /// What it is at, in a few words.
    pub step: String,
    /// Why it failed, in a sentence; empty unless it did.
    pub error: String,
}

/// What a job does, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(tag = "kind", content = "result", rename_all = "snake_case")]
pub enum Work {
    /// Looks whether a pairing code works, and over which WANs.
    Pairing(Option<Box<PairingReport>>),
    /// Measures how fast each WAN is, and all together.
    Speedtest(Option<Box<SpeedReport>>),
    /// Cuts a WAN for some seconds, and measures what connections feel.
    Drill(Option<Box<DrillReport>>),
    /// A kind that this version does not know.
    #[default]
    Unknown,
}

impl<'de> Deserialize<'de> for Work {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// As it is written. What the result is depends on the kind, which may come after it.
        #[derive(Deserialize)]
        struct Written {
            #[serde(default)]
            kind: String,
            #[serde(default)]
            result: Value,
        }
        let written = Written::deserialize(from)?;
        let report = written.result;
        Ok(match written.kind.as_str() {
            "pairing" => Self::Pairing(read(&report)?),
            "speedtest" => Self::Speedtest(read(&report)?),
            "drill" => Self::Drill(read(&report)?),
            _ => Self::Unknown,
        })
    }
}

fn read<T: DeserializeOwned, E: Error>(report: &Value) -> Result<T, E> {
    // Not by `from_value`: the code that reads a report from text is there anyway.
    serde_json::from_str(&report.to_string()).map_err(E::custom)
}

impl Work {
    /// What it is called, with its article.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pairing(_) => "a check of a pairing code",
            Self::Speedtest(_) => "a speed test",
            Self::Drill(_) => "a drill",
            Self::Unknown => "a job",
        }
    }
}

impl Task {
    /// Whether it is over, well or badly.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state != TaskState::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_spelled_like_this() {
        let running = Task {
            id: 3,
            work: Work::Pairing(None),
            state: TaskState::Running,
            progress: 0.5,
            step: "fibre".into(),
            error: String::new(),
        };
        let text = r#"{"id":3,"kind":"pairing","result":null,"state":"running","progress":0.5,"step":"fibre","error":""}"#;
        assert_eq!(serde_json::to_string(&running).unwrap(), text);
        assert_eq!(serde_json::from_str::<Task>(text).unwrap(), running);
        let done = Task {
            work: Work::Pairing(Some(Box::new(PairingReport {
                reached: true,
                ..PairingReport::default()
            }))),
            state: TaskState::Done,
            ..running
        };
        let text = serde_json::to_string(&done).unwrap();
        assert!(text.contains(r#""result":{"reached":true"#), "{text}");
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), done);
        let newer = r#"{"id":1,"kind":"massage","result":{"a":1},"state":"running"}"#;
        let newer: Task = serde_json::from_str(newer).unwrap();
        assert_eq!((newer.work, newer.state), (Work::Unknown, TaskState::Running));
    }
}
