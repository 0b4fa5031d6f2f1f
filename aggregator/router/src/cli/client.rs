//! The asking end of the control socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use thiserror::Error;
use wanbond_control::ErrorReply;
use wanbond_control::request::{Request, Response, from_line, to_line};

/// A daemon that says nothing for so long hangs; `watch` has an answer every second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer taken: hundreds of times the ordinary one.
const LONGEST_ANSWER: u64 = 4 << 20;

/// A connection to a daemon of this network namespace.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a daemon could not be asked, or what it answered instead.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no wanbond daemon runs here; start it with '/etc/init.d/wanbond start' (OpenWrt) or \
         'wanbond run'. If it runs in another network namespace, use 'ip netns exec NAME wanbond …'"
    )]
    NoDaemon,
    /// The socket failed.
    #[error("can't talk to the wanbond daemon: {0}")]
    Socket(#[from] io::Error),
    /// It hangs.
    #[error("the wanbond daemon does not answer; see its log")]
    Silent,
    /// It went away.
    #[error("the wanbond daemon has ended")]
    Ended,
    /// Its answer is not one.
    #[error("the wanbond daemon's answer is not understood; is it of another version? ({0})")]
    NotUnderstood(#[from] serde_json::Error),
    /// It is an answer to something else.
    #[error("the wanbond daemon answered something else; is it of another version?")]
    Unexpected(Box<Response>),
    /// It refused.
    #[error(transparent)]
    Refused(ErrorReply),
}

impl Client {
    /// Connects to the abstract socket `name`, such as
    /// [`ROUTER_SOCKET`](wanbond_control::ROUTER_SOCKET).
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] if nobody listens, else what the socket says.
    pub fn connect(name: &str) -> Result<Self, ClientError> {
        let address = SocketAddr::from_abstract_name(name)?;
        let stream = UnixStream::connect_addr(&address).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ClientError::NoDaemon,
            _ => ClientError::Socket(error),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request; the answer is received with [`Self::receive`].
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let line = to_line(request)?;
        self.stream.get_mut().write_all(line.as_bytes()).map_err(broken)
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the daemon's own words, or why there is no answer.
    pub fn receive(&mut self) -> Result<Response, ClientError> {
        let mut line = Vec::new();
        (&mut self.stream).take(LONGEST_ANSWER).read_until(b'\n', &mut line).map_err(broken)?;
        if line.is_empty() {
            return Err(ClientError::Ended);
        }
        match from_line(&line)? {
            Response::Error(error) => Err(ClientError::Refused(error)),
            answer => Ok(answer),
        }
    }
}

fn broken(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Ended,
        _ => ClientError::Socket(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use wanbond_control::{ErrorCode, Status};

    use super::*;

    /// A daemon that reads one line and answers with `answer`, under a name of its own.
    fn daemon(test: &str, answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let name = format!("wanbond-test-{test}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            line
        });
        (name, thread)
    }

    #[test]
    fn a_daemon_is_asked() {
        let (name, thread) = daemon("ask", "{\"status\":{\"version\":\"7\"}}\n");
        let mut client = Client::connect(&name).unwrap();
        client.send(&Request::Status).unwrap();
        let expected = Status { version: "7".into(), ..Status::default() };
        assert_eq!(client.receive().unwrap(), Response::Status(Box::new(expected)));
        assert!(matches!(client.receive(), Err(ClientError::Ended)));
        assert_eq!(thread.join().unwrap(), "{\"method\":\"status\"}\n");
    }

    #[test]
    fn its_refusal_is_an_error_in_its_words() {
        let (name, thread) =
            daemon("refuse", r#"{"error":{"code":"unknown_wan","message":"no WAN 'x'"}}"#);
        let mut client = Client::connect(&name).unwrap();
        client.send(&Request::Reload).unwrap();
        let error = client.receive().unwrap_err();
        assert_eq!(error.to_string(), "no WAN 'x'");
        assert!(matches!(error, ClientError::Refused(e) if e.code == ErrorCode::UnknownWan));
        thread.join().unwrap();
    }

    #[test]
    fn without_a_daemon_it_says_what_to_do() {
        let error = Client::connect("wanbond-test-nobody").unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon));
        assert!(error.to_string().contains("wanbond run"));
    }

    #[test]
    fn nonsense_is_not_understood() {
        let (name, thread) = daemon("nonsense", "hello\n");
        let mut client = Client::connect(&name).unwrap();
        client.send(&Request::Status).unwrap();
        assert!(matches!(client.receive(), Err(ClientError::NotUnderstood(_))));
        thread.join().unwrap();
    }
}
