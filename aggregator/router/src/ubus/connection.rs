//! A connection to ubusd: requests of our own, and whatever else comes in between.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;
use wanbond_relay::boxed;

use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use ubus::{BlobAttrId, UbusMsgAttr};

use super::blobmsg::Value;
use super::wire::{Message, kind, message, status};

/// ubusd and netifd answer in milliseconds; a busy router in seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that may wait while an answer is awaited; more, and someone floods us.
const MOST_WAITING: usize = 256;

/// Why a request of ours was not carried out.
#[derive(Debug, Error)]
pub(super) enum UbusError {
    /// The connection is of no use any more.
    #[error("the connection to ubusd broke: {0}")]
    Broken(#[from] io::Error),
    /// ubusd or the object has refused; the number is from `enum ubus_msg_status`.
    #[error("refused with status {0}")]
    Refused(u32),
    /// No answer.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// An answer without what it must have.
    #[error("an answer that lacks what it must have")]
    Malformed,
}

impl UbusError {
    /// Whether there is no such object.
    pub(super) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status::NOT_FOUND))
    }
}

/// A call that someone waits for the answer of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) peer: u32,
    pub(super) seq: u16,
    /// The object that was called.
    pub(super) object: u32,
}

pub(super) struct Connection {
    writer: OwnedWriteHalf,
    incoming: mpsc::Receiver<io::Result<Message>>,
    waiting: VecDeque<Message>,
    seq: u16,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Connection {
    /// Connects, and waits for ubusd's greeting.
    ///
    /// # Errors
    /// When there is no ubusd.
    pub(super) async fn open(socket: &Path) -> Result<Self, UbusError> {
        let (mut reader, writer) = UnixStream::connect(socket).await?.into_split();
        let (sender, incoming) = mpsc::channel(16);
        // A task of its own, as half a message must not be lost when something else comes first.
        let reader = tokio::spawn(boxed(async move {
            loop {
                let message = Message::read(&mut reader).await;
                let ended = message.is_err();
                if sender.send(message).await.is_err() || ended {
                    return;
                }
            }
        }))
        .abort_handle();
        let mut connection = Self { writer, incoming, waiting: VecDeque::new(), seq: 0, reader };
        let hello =
            timeout(PATIENCE, connection.receive()).await.map_err(|_| UbusError::Silent)??;
        if hello.kind != kind::HELLO {
            return Err(UbusError::Malformed);
        }
        Ok(connection)
    }

    /// The next message that is no answer to a request. Can be dropped and called again.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(super) async fn next(&mut self) -> Result<Message, UbusError> {
        match self.waiting.pop_front() {
            Some(message) => Ok(message),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Message, UbusError> {
        let ended = || Err(io::ErrorKind::UnexpectedEof.into());
        Ok(self.incoming.recv().await.unwrap_or_else(ended)?)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), UbusError> {
        let sent = timeout(PATIENCE, self.writer.write_all(bytes)).await;
        Ok(sent.map_err(|_| UbusError::Silent)??)
    }

    /// Sends a request, and waits for the data that answer it.
    async fn request(
        &mut self,
        kind: u8,
        peer: u32,
        attributes: Vec<UbusMsgAttr<'_>>,
    ) -> Result<Vec<Message>, UbusError> {
        self.seq = self.seq.wrapping_add(1);
        let seq = self.seq;
        self.send(&message(kind, seq, peer, attributes)?).await?;
        timeout(PATIENCE, self.answers(seq)).await.map_err(|_| UbusError::Silent)?
    }

    async fn answers(&mut self, seq: u16) -> Result<Vec<Message>, UbusError> {
        let mut answers = Vec::new();
        loop {
            let message = self.receive().await?;
            match message.kind {
                kind::STATUS if message.seq == seq => {
                    return match message.fields().status {
                        Some(status::OK) => Ok(answers),
                        Some(refused) => Err(UbusError::Refused(refused)),
                        None => Err(UbusError::Malformed),
                    };
                }
                kind::DATA if message.seq == seq => answers.push(message),
                kind::STATUS | kind::DATA => {}
                _ if self.waiting.len() < MOST_WAITING => self.waiting.push_back(message),
                _ => return Err(io::Error::other("too many messages at once").into()),
            }
        }
    }

    /// Registers an object, without a path one that only subscribes. Its number.
    pub(super) async fn add_object(
        &mut self,
        path: Option<&str>,
        signature: &[u8],
    ) -> Result<u32, UbusError> {
        let mut attributes = Vec::new();
        if let Some(path) = path {
            attributes.push(UbusMsgAttr::ObjPath(path));
            attributes.push(UbusMsgAttr::Unknown(BlobAttrId::SIGNATURE, signature));
        }
        let answers = self.request(kind::ADD_OBJECT, 0, attributes).await?;
        answers.iter().find_map(|answer| answer.fields().object).ok_or(UbusError::Malformed)
    }

    /// The number of the object at `path`.
    pub(super) async fn lookup(&mut self, path: &str) -> Result<u32, UbusError> {
        let answers = self.request(kind::LOOKUP, 0, vec![UbusMsgAttr::ObjPath(path)]).await?;
        answers.iter().find_map(|answer| answer.fields().object).ok_or(UbusError::Malformed)
    }

    /// Calls a method.
    pub(super) async fn call(
        &mut self,
        object: u32,
        method: &str,
        arguments: &Value,
    ) -> Result<Value, UbusError> {
        let data = arguments.to_blobmsg();
        let attributes =
            vec![UbusMsgAttr::ObjId(object), UbusMsgAttr::Method(method), UbusMsgAttr::Data(&data)];
        let answers = self.request(kind::INVOKE, object, attributes).await?;
        let answer = answers.iter().find_map(|answer| answer.fields().data);
        Ok(Value::from_blobmsg(answer.unwrap_or_default()))
    }

    /// Lets what `target` notifies of come to our object `subscriber`, as calls.
    pub(super) async fn subscribe(
        &mut self,
        subscriber: u32,
        target: u32,
    ) -> Result<(), UbusError> {
        let attributes = vec![UbusMsgAttr::ObjId(subscriber), UbusMsgAttr::Target(target)];
        self.request(kind::SUBSCRIBE, 0, attributes).await.map(|_| ())
    }

    /// Answers a call: data if there are some, then the status.
    pub(super) async fn reply(
        &mut self,
        to: Caller,
        status: u32,
        data: Option<&Value>,
    ) -> Result<(), UbusError> {
        if let Some(data) = data {
            let data = data.to_blobmsg();
            // The object's number is what tells ubusd which call is answered.
            let attributes = vec![UbusMsgAttr::ObjId(to.object), UbusMsgAttr::Data(&data)];
            self.send(&message(kind::DATA, to.seq, to.peer, attributes)?).await?;
        }
        let status = UbusMsgAttr::Status(i32::try_from(status).unwrap_or(i32::MAX));
        let attributes = vec![status, UbusMsgAttr::ObjId(to.object)];
        self.send(&message(kind::STATUS, to.seq, to.peer, attributes)?).await
    }

    /// Tells the subscribers of our `object`, and awaits nothing.
    pub(super) async fn notify(
        &mut self,
        object: u32,
        what: &str,
        data: &Value,
    ) -> Result<(), UbusError> {
        self.seq = self.seq.wrapping_add(1);
        let data = data.to_blobmsg();
        let attributes = vec![
            UbusMsgAttr::ObjId(object),
            UbusMsgAttr::Method(what),
            UbusMsgAttr::NoReply(true),
            UbusMsgAttr::Data(&data),
        ];
        self.send(&message(kind::NOTIFY, self.seq, object, attributes)?).await
    }
}
