//! The local control socket: one JSON request a line, one JSON answer.

use std::time::Duration;
use wanbond_relay::boxed;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};
use wanbond_control::Task;
use wanbond_control::diagnosis::{Surroundings, diagnose};
use wanbond_control::event::EventLog;
use wanbond_control::request::{
    Done, ErrorReply, Events, MAX_REQUEST_LEN, Request, Response, WanAction, to_line,
};
use wanbond_control::words::{ErrorCode, Role};
use wanbond_linux::control_socket::peer_is_trusted;

use super::brain::Brain;
use super::{look, usage};

/// Of a WAN's past, unless told otherwise.
const HISTORY_SECONDS: u32 = 600;
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const LEAST_WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A request and where its answer goes.
pub(crate) struct Asked {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Response>,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: UnixListener, requests: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if matches!(peer_is_trusted(&stream), Ok(true)) {
                    tokio::spawn(boxed(converse(stream, requests.clone())));
                } else {
                    debug!("control connection of another user refused");
                }
            }
            Err(error) => {
                warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Asked>) {
    let mut begun = None;
    answer_all(stream, &requests, &mut begun).await;
    // Who began it waits for it no longer.
    if begun.is_some() {
        ask(&requests, Request::Task { id: begun, cancel: true }).await;
    }
}

/// Answers until the asker hangs up; `begun` becomes the number of the last task begun.
async fn answer_all(stream: UnixStream, requests: &mpsc::Sender<Asked>, begun: &mut Option<u32>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let limit = MAX_REQUEST_LEN as u64 + 1;
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let interval = match Request::from_line(&line) {
            Ok(Request::Watch { interval_ms }) => Some(
                interval_ms
                    .map_or(WATCH_INTERVAL, |ms| Duration::from_millis(ms.into()))
                    .max(LEAST_WATCH_INTERVAL),
            ),
            Ok(request) => {
                let is_look = matches!(request, Request::Task { .. });
                let answer = ask(requests, request).await;
                if let (Response::Task(task), false) = (&answer, is_look) {
                    *begun = Some(task.id);
                }
                if send(&mut writer, &answer).await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => {
                let _ = send(&mut writer, &Response::Error(error)).await;
                return;
            }
        };
        if let Some(interval) = interval {
            loop {
                let answer = ask(requests, Request::Status).await;
                if send(&mut writer, &answer).await.is_err() {
                    return;
                }
                tokio::time::sleep(interval).await;
            }
        }
    }
}

async fn send(
    writer: &mut tokio::net::unix::OwnedWriteHalf,
    answer: &Response,
) -> std::io::Result<()> {
    let line = to_line(answer).map_err(std::io::Error::other)?;
    writer.write_all(line.as_bytes()).await
}

/// Asks the daemon, and waits for its answer.
pub(crate) async fn ask(requests: &mpsc::Sender<Asked>, request: Request) -> Response {
    let (answer, answered) = oneshot::channel();
    let gone = || Response::Error(ErrorReply::new(ErrorCode::Failed, "the daemon is stopping"));
    if requests.send(Asked { request, answer }).await.is_err() {
        return gone();
    }
    answered.await.unwrap_or_else(|_| gone())
}

impl Brain {
    /// Answers a request.
    pub(super) fn answer(&mut self, asked: Asked) {
        let response = match asked.request {
            Request::Status | Request::Watch { .. } => {
                let status = Box::new(self.status());
                if !status.bypass.rules.is_empty() {
                    // Asking nftables takes a while.
                    tokio::spawn(boxed(async move {
                        let status = super::bypass::with_counters(status).await;
                        let _ = asked.answer.send(Response::Status(status));
                    }));
                    return;
                }
                Response::Status(status)
            }
            Request::Wan { name, action } => self.act(&name, action),
            Request::Reload => {
                // The same way as by a signal, so that there is one way only.
                match nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP) {
                    Ok(()) => done("reading the configuration again"),
                    Err(error) => {
                        Response::Error(ErrorReply::new(ErrorCode::Failed, error.to_string()))
                    }
                }
            }
            Request::Events { since } => {
                let log: &EventLog = &self.shared.events();
                Response::Events(Events {
                    events: log.since(since).cloned().collect(),
                    last_seq: log.last_seq(),
                })
            }
            Request::Diagnose => {
                let (status, mut beside) = (self.status(), self.surroundings_now());
                let look = self.look_around();
                // Asking around takes seconds where nothing answers.
                tokio::spawn(boxed(async move {
                    (beside.portals, beside.names_answered) = look.await;
                    let diagnosis = diagnose(&status, &beside);
                    let _ = asked.answer.send(Response::Diagnosis(diagnosis));
                }));
                return;
            }
            Request::History { name, seconds } => match self.place(&name) {
                Ok(place) => {
                    let past = &self.wans[place].past;
                    let seconds = seconds.unwrap_or(HISTORY_SECONDS);
                    Response::History(Box::new(past.show(&name, seconds)))
                }
                Err(error) => Response::Error(error),
            },
            Request::Pairing { code } => task(self.begin_pairing(&code.0)),
            Request::Speedtest { name, seconds } => {
                task(self.begin_speedtest(name.as_deref().filter(|name| !name.is_empty()), seconds))
            }
            Request::Drill { name, seconds } => task(self.begin_drill(&name, seconds)),
            Request::Support => Response::Support(Box::new(self.support())),
            Request::Task { id, cancel } => task(self.shared.lasting.tasks.show(id, cancel)),
        };
        // Whoever asked may have gone.
        let _ = asked.answer.send(response);
    }

    pub(super) fn surroundings_now(&mut self) -> Surroundings {
        Surroundings {
            cpu_percent: self.processor.busy_percent(),
            clock_is_set: usage::clock_is_set(),
            window_limited_percent: self.shared.lanes.window_limited_percent(),
            server_cpu_percent: self.server_load(),
            receive_window: look::receive_window(),
            portals: Vec::new(),
            names_answered: None,
        }
    }

    /// Where the WAN of this name stands.
    pub(super) fn place(&self, name: &str) -> Result<usize, ErrorReply> {
        self.wans.iter().position(|wan| &*wan.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.wans.iter().map(|wan| &*wan.name).collect();
            ErrorReply::new(
                ErrorCode::UnknownWan,
                format!("there is no WAN '{name}'; there are: {}", known.join(", ")),
            )
        })
    }

    fn act(&mut self, name: &str, action: WanAction) -> Response {
        let place = match self.place(name) {
            Ok(place) => place,
            Err(error) => return Response::Error(error),
        };
        let configured = self.wans[place].config.role;
        let role = match action {
            WanAction::Up if configured == Role::Off => Role::Bond,
            WanAction::Up => configured,
            WanAction::Down => Role::Off,
            WanAction::Role { role } => role,
        };
        self.set_role(place, role);
        done(&format!("WAN {name}: {role}"))
    }
}

fn task(answer: Result<Task, ErrorReply>) -> Response {
    answer.map_or_else(Response::Error, |task| Response::Task(Box::new(task)))
}

fn done(message: &str) -> Response {
    Response::Done(Done { message: message.to_owned() })
}
