//! What is asked over the local control socket, and the answers.
//!
//! One request is one line of JSON, `{"method":"wan","name":"lte","action":"role","role":"off"}`,
//! answered by one line, `{"done":{…}}` or `{"error":{…}}`; only `watch` is answered by many,
//! until the asker hangs up. Several requests may follow each other on one connection; a task that was
//! begun over it ends with it. Arguments that a method doesn't know are ignored.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::diagnosis::Diagnosis;
use crate::event::Event;
use crate::history::History;
use crate::server::ServerStatus;
use crate::status::Status;
use crate::support::SupportBundle;
use crate::task::Task;
use crate::words::{ErrorCode, Role};

/// The longest request line, in bytes, its newline included. Longer ones are refused unread.
pub const MAX_REQUEST_LEN: usize = 4096;

/// What is asked of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Request {
    /// The status document. Answer: [`Response::Status`], of a server [`Response::ServerStatus`].
    Status,
    /// The status document now and again and again, until the asker hangs up.
    Watch {
        /// Milliseconds between two documents; the daemon's choice without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interval_ms: Option<u32>,
    },
    /// Do something to a WAN, until the next change or start. Answer: [`Response::Done`].
    Wan {
        /// The WAN's name.
        name: String,
        /// What to do.
        #[serde(flatten)]
        action: WanAction,
    },
    /// Read the configuration again. Answer: [`Response::Done`].
    Reload,
    /// The events after a number. Answer: [`Response::Events`].
    Events {
        /// The number of the last event the asker knows; 0 for all that are kept.
        #[serde(default)]
        since: u64,
    },
    /// What a WAN did of late. Answer: [`Response::History`].
    History {
        /// The WAN's name.
        name: String,
        /// How far back, in seconds; steps are as short as is kept for that long (1 s for 10 min,
        /// 10 s for 3 h, 5 min for 7 days). 10 minutes without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// What is wrong or slow, and what to do. Answer: [`Response::Diagnosis`].
    Diagnose,
    /// Begins a task: looks whether a pairing code works, and over which WANs. Nothing is written or
    /// changed. Answer: [`Response::Task`].
    Pairing {
        /// What `wanbond-server router add` printed.
        code: Secret,
    },
    /// Begins a task: measures how fast each WAN is, and all together. Answer: [`Response::Task`].
    Speedtest {
        /// This WAN only, even if it only stands by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// How long each direction is measured, in seconds, 2 to 30; 5 without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// Begins a task: takes a WAN out as if it were cut, measures what connections feel, and brings it
    /// back. Answer: [`Response::Task`].
    Drill {
        /// The WAN's name.
        name: String,
        /// For how long, in seconds, 1 to 60; 5 without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// All that helps who is to help, without secrets. Answer: [`Response::Support`].
    Support,
    /// How a task stands. Answer: [`Response::Task`].
    Task {
        /// Its number; the last one's without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// End it, if it still runs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cancel: bool,
    },
}

/// A text that logs and debugging don't show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What is done to a WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum WanAction {
    /// Use it again in its role.
    Up,
    /// Take it out of use until told otherwise.
    Down,
    /// Give it another role.
    Role {
        /// The new role.
        role: Role,
    },
}

/// A daemon's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The router's status.
    Status(Box<Status>),
    /// The server's status.
    ServerStatus(Box<ServerStatus>),
    /// It is done.
    Done(Done),
    /// The events asked for.
    Events(Events),
    /// The past asked for.
    History(Box<History>),
    /// What was found.
    Diagnosis(Diagnosis),
    /// A task.
    Task(Box<Task>),
    /// All that helps.
    Support(Box<SupportBundle>),
    /// It is not done, and why.
    Error(ErrorReply),
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// One sentence for people.
    pub message: String,
}

/// A piece of the event log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    /// Oldest first.
    pub events: Vec<Event>,
    /// What to ask `since` next time.
    pub last_seq: u64,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorReply {
    /// For programs.
    #[serde(default)]
    pub code: ErrorCode,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
}

impl ErrorReply {
    /// An error with its sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Request {
    /// Reads a request line.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`], ready to be sent back, if it is too long, not JSON or not a
    /// request.
    pub fn from_line(line: &[u8]) -> Result<Self, ErrorReply> {
        if line.len() > MAX_REQUEST_LEN {
            let message = format!("a request has at most {MAX_REQUEST_LEN} bytes");
            return Err(ErrorReply::new(ErrorCode::BadRequest, message));
        }
        from_line(line).map_err(|error| {
            ErrorReply::new(ErrorCode::BadRequest, format!("not a request: {error}"))
        })
    }
}

/// One line of JSON, its newline included.
///
/// # Errors
/// None for the types of this crate; of others, what their `Serialize` returns.
pub fn to_line<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    Ok(line)
}

/// Reads one line of JSON, with or without its newline.
///
/// # Errors
/// If it is not JSON of a `T`.
pub fn from_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_spelled_like_this() {
        for (request, line) in [
            (Request::Status, r#"{"method":"status"}"#),
            (Request::Watch { interval_ms: None }, r#"{"method":"watch"}"#),
            (Request::Watch { interval_ms: Some(200) }, r#"{"method":"watch","interval_ms":200}"#),
            (
                Request::Wan { name: "lte".into(), action: WanAction::Down },
                r#"{"method":"wan","name":"lte","action":"down"}"#,
            ),
            (
                Request::Wan { name: "lte".into(), action: WanAction::Role { role: Role::Backup } },
                r#"{"method":"wan","name":"lte","action":"role","role":"backup"}"#,
            ),
            (Request::Diagnose, r#"{"method":"diagnose"}"#),
            (
                Request::Pairing { code: Secret("wanbond1:x".into()) },
                r#"{"method":"pairing","code":"wanbond1:x"}"#,
            ),
            (Request::Support, r#"{"method":"support"}"#),
            (Request::Speedtest { name: None, seconds: None }, r#"{"method":"speedtest"}"#),
            (
                Request::Drill { name: "lte".into(), seconds: Some(3) },
                r#"{"method":"drill","name":"lte","seconds":3}"#,
            ),
            (Request::Task { id: None, cancel: false }, r#"{"method":"task"}"#),
            (
                Request::Task { id: Some(3), cancel: true },
                r#"{"method":"task","id":3,"cancel":true}"#,
            ),
            (Request::Reload, r#"{"method":"reload"}"#),
            (Request::Events { since: 7 }, r#"{"method":"events","since":7}"#),
            (
                Request::History { name: "lte".into(), seconds: Some(60) },
                r#"{"method":"history","name":"lte","seconds":60}"#,
            ),
        ] {
            assert_eq!(to_line(&request).unwrap(), format!("{line}\n"));
            assert_eq!(Request::from_line(line.as_bytes()).as_ref(), Ok(&request));
        }
        let shown = format!("{:?}", Request::Pairing { code: Secret("wanbond1:x".into()) });
        assert!(!shown.contains("wanbond1"), "{shown}");
        // uhttpd adds an argument of its own to every call.
        let line = br#"{"method":"status","ubus_rpc_session":"0123"}"#;
        assert_eq!(Request::from_line(line), Ok(Request::Status));
    }

    #[test]
    fn wrong_requests_are_told_what_is_wrong() {
        for (line, part) in [
            (&br#"{"method":"explode"}"#[..], "unknown variant `explode`"),
            (
                br#"{"method":"wan","name":"lte","action":"role","role":"main"}"#,
                "'main' is not a role",
            ),
            (br#"{"method":"wan","action":"up"}"#, "missing field `name`"),
            (b"status", "not a request"),
            (&[b' '; MAX_REQUEST_LEN + 1], "at most 4096 bytes"),
        ] {
            let error = Request::from_line(line).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest);
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn answers_are_spelled_like_this() {
        let error = Response::Error(ErrorReply::new(ErrorCode::UnknownWan, "no WAN 'x'"));
        let line = r#"{"error":{"code":"unknown_wan","message":"no WAN 'x'"}}"#;
        assert_eq!(to_line(&error).unwrap(), format!("{line}\n"));
        assert_eq!(from_line::<Response>(line.as_bytes()).unwrap(), error);
        let status = Response::Status(Box::default());
        let line = to_line(&status).unwrap();
        assert!(line.starts_with(r#"{"status":{"version":"#), "{line}");
        assert_eq!(from_line::<Response>(line.as_bytes()).unwrap(), status);
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            let _ = Request::from_line(&line);
        }
    }
}
