//! All that helps who is to help, in one document without secrets.

use serde::{Deserialize, Serialize};

use crate::diagnosis::Diagnosis;
use crate::event::Event;
use crate::history::History;
use crate::status::Status;
use crate::task::Task;

/// All that helps who is to help. Keys and pairing codes are removed; addresses are not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SupportBundle {
    /// The status.
    pub status: Status,
    /// What is wrong or slow.
    pub diagnosis: Diagnosis,
    /// The configuration file, without its pairing codes.
    pub configuration: String,
    /// All events that are kept, oldest first.
    pub events: Vec<Event>,
    /// The last ten minutes of each WAN.
    pub history: Vec<History>,
    /// The last long job.
    pub task: Option<Task>,
    /// The machine: processor, memory and system, as the kernel tells.
    pub machine: Machine,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Such as `mips` or `x86_64`.
    pub architecture: String,
    /// Processors in use.
    pub processors: u32,
    /// Memory in kilobytes.
    pub memory_kb: u64,
    /// What of it is free or soon freed, in kilobytes.
    pub available_kb: u64,
    /// The system's release, such as `OpenWrt 24.10.0`.
    pub system: String,
}

/// What is put in place of a secret.
const REMOVED: &str = "(removed)";

/// A text without pairing codes: whatever follows their prefix, and whatever an option `code` is.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut words = line.split_whitespace();
        let is_option = matches!(words.next(), Some("option" | "list"));
        let name = words.next().map(|word| word.trim_matches(['\'', '"']));
        if is_option && name == Some("code") {
            let indent = line.len() - line.trim_start().len();
            out.push_str(&line[..indent]);
            out.push_str("option code '");
            out.push_str(REMOVED);
            out.push_str("'\n");
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("wanbond1:") {
            let (before, code) = rest.split_at(at);
            let (prefix, code) = code.split_at("wanbond1:".len());
            let end = code.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
            out.push_str(before);
            out.push_str(prefix);
            out.push_str(REMOVED);
            rest = &code[end.unwrap_or(code.len())..];
        }
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_removed_wherever_they_stand() {
        let text = "config server 'vps'\n\toption code 'wanbond1:AbC-_9'\n\
            \toption  \"code\" 'half a code'\n# wanbond1:xyz, or wanbond1:uvw\n\tlist lan 'lan'";
        let wanted = "config server 'vps'\n\toption code '(removed)'\n\
            \toption code '(removed)'\n# wanbond1:(removed), or wanbond1:(removed)\n\tlist lan 'lan'";
        assert_eq!(without_secrets(text), wanted);
    }
}
