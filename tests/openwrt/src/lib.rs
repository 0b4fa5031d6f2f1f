//! OpenWrt's surroundings for tests: a ubus broker, someone who calls and listens, and objects such as
//! netifd's. All of it is the code of others (`ubusd`, `ubus-zero`), not the daemon's own.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::Value;
use ubus::client::UbusClient;
use ubus::envelope::{EnvBuilder, UbusAttr, try_find};
use ubus::json::{blobmsg_to_json, json_to_blobmsg};
use ubus::server::UbusConnection;
use ubus::unix::UnixUbusTransport;
use ubus::wire::{Frame, MsgType};
use ubus::{Transport as _, UbusError, UbusObject};
use ubusd::{Broker, Config};

/// How long anything may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A broker on a socket, until it is dropped.
#[derive(Debug)]
pub struct Bus {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bus {
    /// Starts it.
    ///
    /// # Panics
    /// When the socket can't be made.
    #[must_use]
    pub fn start(socket: &Path) -> Self {
        let config = Config { socket_path: socket.display().to_string(), ..Config::default() };
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            let mut broker = Broker::bind(config).expect("the broker's socket");
            ready.send(()).expect("someone waits");
            while !stopped.load(Ordering::Relaxed) {
                broker.poll_once(20).expect("the broker runs");
            }
        });
        is_ready.recv().expect("the broker starts");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Someone who calls objects and listens to them.
pub struct Caller(UbusClient<UnixUbusTransport>);

impl Caller {
    /// Connects.
    ///
    /// # Panics
    /// When there is no broker.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        Self(UbusClient::connect(transport(socket).expect("a broker")).expect("its greeting"))
    }

    /// Calls a method, and gives its answer or its status.
    ///
    /// # Errors
    /// What it refused with.
    pub fn call(&mut self, object: &str, method: &str, with: &Value) -> Result<Value, UbusError> {
        let id = self.0.lookup(object)?;
        let answers = self.0.invoke_many(id, method, &json_to_blobmsg(with)?)?;
        blobmsg_to_json(answers.first().map_or(&[], Vec::as_slice))
    }

    /// The methods of an object with their arguments' types.
    ///
    /// # Errors
    /// When there is none.
    pub fn signature(&mut self, object: &str) -> Result<Value, UbusError> {
        let found = self.0.lookup_objects(Some(object))?;
        blobmsg_to_json(&found.first().ok_or(UbusError::Status(4))?.signature)
    }

    /// Listens to an object from now on.
    ///
    /// # Errors
    /// When there is none.
    pub fn listen(&mut self, object: &str) -> Result<(), UbusError> {
        let target = self.0.lookup(object)?;
        let own = self.0.add_anonymous_object()?;
        self.0.subscribe(own, target)
    }

    /// Waits for a notification for which `is_it` holds.
    ///
    /// # Panics
    /// When none comes.
    pub fn heard(&mut self, mut is_it: impl FnMut(&str, &Value) -> bool) -> Value {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let Ok(Some(frame)) = self.0.recv_frame() else {
                sleep(Duration::from_millis(10));
                continue;
            };
            if let Some((name, data)) = notification(&frame)
                && is_it(&name, &data)
            {
                return data;
            }
        }
        panic!("no such notification");
    }
}

fn notification(frame: &Frame) -> Option<(String, Value)> {
    let find = |attribute| try_find(&frame.payload, attribute).ok().flatten();
    let name = find(UbusAttr::Method)?.as_str()?.to_owned();
    Some((name, blobmsg_to_json(find(UbusAttr::Data)?.payload).ok()?))
}

fn transport(socket: &Path) -> Result<UnixUbusTransport, UbusError> {
    let mut transport = UnixUbusTransport::connect(&socket.display().to_string())?;
    transport.set_deadline(Some(PATIENCE));
    Ok(transport)
}

/// An object with one method, whose answer can be changed, until it is dropped.
#[derive(Debug)]
pub struct Provider {
    answer: Arc<Mutex<Value>>,
    changed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Provider {
    /// Registers `object` with `method`, which answers `answer` to everyone, whatever is asked.
    ///
    /// # Panics
    /// When it can't be registered.
    #[must_use]
    pub fn start(socket: &Path, object: &str, method: &str, answer: Value) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let (changed, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = spawn({
            let (socket, object, method): (PathBuf, _, _) =
                (socket.into(), object.to_owned(), method.to_owned());
            let (answer, changed, stop) = (answer.clone(), changed.clone(), stop.clone());
            move || {
                let served = UbusObject::new(object).method(method, move |_| {
                    json_to_blobmsg(&answer.lock().expect("no one panicked"))
                });
                let transport = transport(&socket).expect("a broker");
                let mut bus =
                    UbusConnection::connect_and_register(transport, served).expect("a new name");
                // It answers for as long as it is there, however long nobody asks.
                bus.transport_mut().set_deadline(None);
                ready.send(()).expect("someone waits");
                while !stop.load(Ordering::Relaxed) {
                    if bus.poll_one().is_err() {
                        return;
                    }
                    if changed.swap(false, Ordering::Relaxed) {
                        let frame = notify(bus.object_id());
                        let _ = bus.transport_mut().send(&frame);
                    }
                    sleep(Duration::from_millis(5));
                }
            }
        });
        is_ready.recv().expect("the object is registered");
        Self { answer, changed, stop, thread: Some(thread) }
    }

    /// Answers otherwise from now on, and tells the subscribers so.
    ///
    /// # Panics
    /// Never.
    pub fn change(&self, answer: Value) {
        *self.answer.lock().expect("no one panicked") = answer;
        self.changed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn notify(object: u32) -> Frame {
    let mut envelope = EnvBuilder::new();
    envelope.push_u32(UbusAttr::ObjId, object);
    envelope.push_str(UbusAttr::Method, "interface.update");
    envelope.push_u8(UbusAttr::NoReply, 1);
    envelope.push_data(&[]);
    Frame::to_peer(MsgType::Notify, 1, object, envelope.finish())
}
