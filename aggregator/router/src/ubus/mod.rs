//! OpenWrt's bus: serves the object `wanbond`, and asks netifd where the networks are.
//!
//! - [`wire`]: messages; [`blobmsg`]: the documents in them.
//! - [`connection`]: requests of ours over a connection.
//! - [`object`]: the methods that others call.
//!
//! One task ([`Ubus::run`]) keeps a connection to ubusd, and makes a new one whenever it ends: ubusd
//! may be restarted, and where there is none (a laptop, the lab) it is tried seldom. Calls are answered by
//! the same requests that the control socket takes. Whoever subscribes to the object is notified of each
//! event as it is logged, the kind of the event being the notification's name.
//!
//! Peers are other processes of the router, not all of them root's: what they send is read with
//! bounds checked, no call waits for another one, and the number of those under way is limited.

pub(crate) mod blobmsg;
mod connection;
mod object;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};
use wanbond_control::Event;

pub(crate) use self::blobmsg::Value;
use self::connection::{Caller, Connection, UbusError};
use self::object::Answer;
use self::wire::{Message, kind, status};
use crate::daemon::{Asked, ask};
use crate::netifd::{Interfaces, rivals};
use crate::shared::Shared;

/// Where ubusd listens on OpenWrt.
pub const SOCKET: &str = "/var/run/ubus/ubus.sock";

/// Between attempts to connect, at most, and to find netifd.
const AGAIN: Duration = Duration::from_secs(5);
/// After a connection that worked: ubusd is being restarted. Then twice as long each time.
const SOON: Duration = Duration::from_millis(500);
/// netifd tells of each step of an interface; one look after the last of them will do.
const SETTLE: Duration = Duration::from_millis(200);
/// Calls that may be under way at once.
const MOST_CALLS: usize = 16;

/// What the task needs.
pub(crate) struct Ubus {
    pub(crate) socket: PathBuf,
    /// The daemon's present run, whose events are told.
    pub(crate) run: watch::Receiver<Option<Arc<Shared>>>,
    pub(crate) requests: mpsc::Sender<Asked>,
    pub(crate) interfaces: watch::Sender<Arc<Interfaces>>,
    /// What else steers the same traffic here, in a sentence.
    pub(crate) rival: watch::Sender<Option<String>>,
}

/// What is going on over one connection.
struct Serving<'a> {
    ubus: &'a Ubus,
    connection: Connection,
    /// `wanbond`.
    object: u32,
    /// What netifd's notifications come to.
    listener: u32,
    /// netifd's object, while it is there.
    netifd: Option<u32>,
    calls: Arc<Semaphore>,
    answers: mpsc::Sender<(Caller, Answer)>,
}

impl Ubus {
    /// Serves until it is dropped.
    pub(crate) async fn run(self) {
        let mut pause = SOON;
        loop {
            match self.serve().await {
                Err(error) => debug!(%error, "no ubus here"),
                Ok(error) => {
                    info!(%error, "ubus is gone");
                    pause = SOON;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN);
        }
    }

    /// Serves over one connection. Why it ended; an error if it did not come about.
    async fn serve(&self) -> Result<UbusError, UbusError> {
        let mut connection = Connection::open(&self.socket).await?;
        let object = connection.add_object(Some(object::PATH), &object::signature()).await?;
        let listener = connection.add_object(None, &[]).await?;
        info!("serving on ubus");
        let (answers, answered) = mpsc::channel(MOST_CALLS);
        let calls = Arc::new(Semaphore::new(MOST_CALLS));
        let mut serving =
            Serving { ubus: self, connection, object, listener, netifd: None, calls, answers };
        Ok(match serving.run(answered).await {
            Ok(never) => match never {},
            Err(error) => error,
        })
    }
}

/// The events of a run, one after the other.
struct News {
    of: Option<(Arc<Shared>, watch::Receiver<u64>)>,
    /// The number of the last one given.
    told: u64,
}

impl News {
    /// All of its events, none without a run.
    fn of(run: Option<Arc<Shared>>) -> Self {
        let with_news = |run: Arc<Shared>| {
            let news = run.watch_events();
            (run, news)
        };
        Self { of: run.map(with_news), told: 0 }
    }

    /// Leaves out what was.
    fn skip(&mut self) {
        if let Some((run, _)) = &self.of {
            self.told = run.events().last_seq();
        }
    }

    /// Waits for the next one. Can be dropped and called again.
    async fn next(&mut self) -> Event {
        let Some((run, news)) = &mut self.of else { return std::future::pending().await };
        loop {
            let next = run.events().since(self.told).next().cloned();
            if let Some(event) = next {
                self.told = event.seq;
                return event;
            }
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Serving<'_> {
    async fn run(
        &mut self,
        mut answered: mpsc::Receiver<(Caller, Answer)>,
    ) -> Result<std::convert::Infallible, UbusError> {
        let mut runs = self.ubus.run.clone();
        let mut news = News::of(runs.borrow_and_update().clone());
        news.skip();
        let mut look_at = Some(Instant::now());
        loop {
            tokio::select! {
                message = self.connection.next() => {
                    if self.take(&message?).await? {
                        look_at = Some(Instant::now() + SETTLE);
                    }
                }
                Some((caller, (status, data))) = answered.recv() => {
                    self.connection.reply(caller, status, data.as_ref()).await?;
                }
                Ok(()) = runs.changed() => news = News::of(runs.borrow_and_update().clone()),
                event = news.next() => self.tell(&event).await?,
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    let found = self.look().await?;
                    look_at = (!found).then(|| Instant::now() + AGAIN);
                }
            }
        }
    }

    /// Takes a message. `true` if netifd has changed something.
    async fn take(&mut self, message: &Message) -> Result<bool, UbusError> {
        let fields = message.fields();
        match (message.kind, fields.object) {
            (kind::INVOKE, Some(object)) => {
                let caller = Caller { peer: message.peer, seq: message.seq, object };
                if object == self.object {
                    let arguments = Value::from_blobmsg(fields.data.unwrap_or_default());
                    self.call(caller, fields.method.unwrap_or_default(), arguments).await?;
                } else if !fields.no_reply {
                    self.connection.reply(caller, status::OK, None).await?;
                }
                Ok(object == self.listener)
            }
            // netifd has ended; its successor is to be found.
            (kind::UNSUBSCRIBE, _) => {
                self.netifd = None;
                Ok(true)
            }
            // Subscribers of ours, and answers that came too late.
            _ => Ok(false),
        }
    }

    async fn call(
        &mut self,
        caller: Caller,
        method: &str,
        arguments: Value,
    ) -> Result<(), UbusError> {
        let request = match object::request(method, arguments) {
            Ok(request) => request,
            Err((status, why)) => return self.connection.reply(caller, status, why.as_ref()).await,
        };
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            return self.connection.reply(caller, status::UNKNOWN_ERROR, None).await;
        };
        let (requests, answers) = (self.ubus.requests.clone(), self.answers.clone());
        tokio::spawn(boxed(async move {
            let answer = object::answer(&ask(&requests, request).await);
            // The connection may have ended.
            let _ = answers.send((caller, answer)).await;
            drop(permit);
        }));
        Ok(())
    }

    /// Notifies of an event.
    async fn tell(&mut self, event: &Event) -> Result<(), UbusError> {
        match object::document(event) {
            Some(document) => {
                self.connection.notify(self.object, event.kind.as_str(), &document).await
            }
            None => Ok(()),
        }
    }

    /// Looks where the networks are. `false` if netifd is not there.
    async fn look(&mut self) -> Result<bool, UbusError> {
        let netifd = match self.netifd {
            Some(netifd) => netifd,
            None => match self.follow_netifd().await {
                Ok(netifd) => netifd,
                Err(error) => return refused(error),
            },
        };
        // First, as with the networks known there would be bonding.
        self.look_for_rivals().await?;
        let nothing = Value::Table(Vec::new());
        match self.connection.call(netifd, "dump", &nothing).await {
            Ok(dump) => {
                if let Some(found) = Interfaces::from_dump(&dump) {
                    debug!(?found, "networks");
                    self.ubus.interfaces.send_if_modified(|known| {
                        let news = **known != found;
                        *known = Arc::new(found);
                        news
                    });
                }
            }
            Err(error) => {
                self.netifd = None;
                return refused(error);
            }
        }
        Ok(true)
    }

    async fn follow_netifd(&mut self) -> Result<u32, UbusError> {
        let netifd = self.connection.lookup("network.interface").await?;
        self.connection.subscribe(self.listener, netifd).await?;
        self.netifd = Some(netifd);
        Ok(netifd)
    }

    async fn look_for_rivals(&mut self) -> Result<(), UbusError> {
        let procd = match self.connection.lookup("service").await {
            Ok(procd) => procd,
            Err(error) => return refused(error).map(|_| ()),
        };
        let mut found = None;
        for name in rivals::NAMES {
            let arguments =
                Value::Table(vec![("name".to_owned(), Value::Text((*name).to_owned()))]);
            match self.connection.call(procd, "list", &arguments).await {
                Ok(services) if rivals::is_active(&services, name) => {
                    found = Some(rivals::explain(name));
                }
                Ok(_) => {}
                Err(error) => {
                    refused(error)?;
                }
            }
        }
        self.ubus.rival.send_if_modified(|known| {
            let news = *known != found;
            *known = found;
            news
        });
        Ok(())
    }
}

/// What a refusal means here: it is not there. What broke the connection ends it.
fn refused(error: UbusError) -> Result<bool, UbusError> {
    match error {
        UbusError::Broken(_) => Err(error),
        error => {
            if !error.is_not_found() {
                debug!(%error, "ubus");
            }
            Ok(false)
        }
    }
}
