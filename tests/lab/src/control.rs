//! Talking to a running lab: a unix socket in its folder, one JSON request per line, one JSON
//! answer.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::emulator::{Direction, LinkReport};
use crate::error::LabError;
use crate::lab::Lab;
use crate::scenario::ShapeChange;

const SOCKET: &str = "control.sock";

/// What is asked of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// All WANs' counters.
    Counters,
    /// The namespaces and the threads that hold them.
    Namespaces,
    /// Change a WAN: words such as `cut`, `restore`, `rate=5 Mbit/s` (both ways), `down.delay=20ms`.
    Link {
        /// Which.
        wan: String,
        /// What.
        words: Vec<String>,
    },
    /// End.
    Down,
}

/// What a lab answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The counters asked for.
    Counters(Vec<LinkReport>),
    /// The namespaces asked for: name and thread.
    Namespaces(Vec<(String, i32)>),
    /// Done.
    Done,
    /// Not done, and why.
    Error(String),
}

/// Answers requests until one says `down` or `stop` says so.
///
/// # Errors
/// When the socket can't be made.
pub fn serve(lab: &Lab, stop: impl Fn() -> bool) -> io::Result<()> {
    let listener = UnixListener::bind(lab.dir().join(SOCKET))?;
    listener.set_nonblocking(true)?;
    while !stop() {
        match listener.accept() {
            // A client that talks nonsense or goes away is its own concern.
            Ok((stream, _)) => {
                if let Ok(Request::Down) = answer(lab, &stream) {
                    return Ok(());
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    Ok(())
}

fn answer(lab: &Lab, mut stream: &UnixStream) -> io::Result<Request> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let answer = carry_out(lab, &request).unwrap_or_else(Answer::Error);
    writeln!(stream, "{}", serde_json::to_string(&answer)?)?;
    Ok(request)
}

fn carry_out(lab: &Lab, request: &Request) -> Result<Answer, String> {
    let text = |error: LabError| error.to_string();
    match request {
        Request::Counters => {
            let all = lab.wans().map(|wan| wan.counters()).collect::<Result<_, _>>();
            all.map(Answer::Counters).map_err(text)
        }
        Request::Namespaces => Ok(Answer::Namespaces(
            lab.namespaces().map(|ns| (ns.name().to_owned(), ns.tid().as_raw())).collect(),
        )),
        Request::Link { wan: name, words } => {
            let wan = lab.wans().find(|wan| wan.name() == name);
            let wan = wan.ok_or_else(|| format!("no WAN {name:?}"))?;
            let change = LinkChange::parse(words)?;
            match change.cut {
                Some(true) => wan.cut().map_err(text)?,
                Some(false) => wan.restore().map_err(text)?,
                None => {}
            }
            for (direction, change) in [(Direction::Down, change.down), (Direction::Up, change.up)]
            {
                if !change.is_empty() {
                    wan.change(direction, &change).map_err(text)?;
                }
            }
            Ok(Answer::Done)
        }
        Request::Down => Ok(Answer::Done),
    }
}

/// The words of `link set` understood.
#[derive(Debug, Default, PartialEq)]
struct LinkChange {
    cut: Option<bool>,
    down: ShapeChange,
    up: ShapeChange,
}

impl LinkChange {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut change = Self::default();
        for word in words {
            match (word.as_str(), word.split_once('=')) {
                ("cut", _) => change.cut = Some(true),
                ("restore", _) => change.cut = Some(false),
                (_, Some((key, value))) => {
                    let (down, up, key) = match key.split_once('.') {
                        Some(("down", key)) => (true, false, key),
                        Some(("up", key)) => (false, true, key),
                        _ => (true, true, key),
                    };
                    let wrong = |error: crate::scenario::ChangeError| error.to_string();
                    if down {
                        change.down.set(key, value).map_err(wrong)?;
                    }
                    if up {
                        change.up.set(key, value).map_err(wrong)?;
                    }
                }
                _ => return Err(format!("{word:?} is neither cut, restore nor key=value")),
            }
        }
        Ok(change)
    }
}

/// Asks the lab whose folder this is.
///
/// # Errors
/// When it can't be reached or does not answer.
pub fn ask(dir: &Path, request: &Request) -> io::Result<Answer> {
    let stream = UnixStream::connect(dir.join(SOCKET))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    writeln!(&stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_what_they_name() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let change = LinkChange::parse(&words("restore rate=5Mbit/s up.delay=7ms")).unwrap();
        assert_eq!(change.cut, Some(false));
        assert_eq!(change.down.rate, "5 Mbit/s".parse().ok());
        assert_eq!(change.down.delay, None);
        assert_eq!(change.up.delay, Some(Duration::from_millis(7)));
        assert!(LinkChange::parse(&words("faster")).is_err());
        assert!(LinkChange::parse(&words("rate=fast")).is_err());
    }
}
