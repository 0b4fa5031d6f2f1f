//! A small client of etcd's third API, over the JSON gateway that etcd has had since 3.4.
//!
//! It blocks: the command line and a thread of its own call it. Each call tries the given servers
//! in turn, beginning with the one that answered last. A token is fetched when a user is given, and
//! fetched anew when etcd doesn't know it any more.

use std::io::{BufReader, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// A call, with everything. etcd answers in milliseconds; an election takes it a second or two.
const CALL: Duration = Duration::from_secs(5);
/// Longest answer: some hundred thousand routers.
const LONGEST: u64 = 256 << 20;

/// Why etcd did not do what it was asked.
#[derive(Debug, Error)]
pub enum EtcdError {
    /// Not where an etcd could be.
    #[error("'{0}' is no etcd address; write http://HOST:2379 or https://HOST:2379")]
    BadUrl(String),
    /// A certificate or key that can't be read.
    #[error("{what}: {reason}; a file in PEM format is needed")]
    BadPem {
        /// Which.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// None of the servers answers.
    #[error("etcd can't be reached ({0})")]
    Unreachable(String),
    /// etcd said no.
    #[error("etcd at {url} refuses: {reason}")]
    Refused {
        /// Where.
        url: String,
        /// In its words.
        reason: String,
    },
    /// Something else than etcd answered.
    #[error("what answers at {url} is no etcd 3.4 or newer: {reason}")]
    Nonsense {
        /// Where.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Where etcd is, and how to get in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Addresses of its client port; at least one.
    pub urls: Vec<String>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// Who signs etcd's certificates, in PEM; without it, the public authorities.
    pub ca: Option<String>,
    /// The certificate and key to show, in PEM.
    pub identity: Option<(String, String)>,
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// etcd's revision when it was put.
    pub revision: i64,
}

/// Everything under a prefix at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// etcd's revision at that moment.
    pub revision: i64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// An etcd.
pub struct Etcd {
    agent: Agent,
    access: Access,
    /// The server that answered last.
    last: AtomicUsize,
    token: Mutex<Option<String>>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("urls", &self.access.urls).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// If addresses or certificates make no sense.
    pub fn new(access: Access) -> Result<Self, EtcdError> {
        if access.urls.is_empty() {
            return Err(EtcdError::BadUrl(String::new()));
        }
        for url in &access.urls {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let host = host.map(|host| host.strip_suffix('/').unwrap_or(host));
            let plain = |host: &str| !host.is_empty() && !host.contains(['/', ' ', '@', '?', '#']);
            if !host.is_some_and(plain) {
                return Err(EtcdError::BadUrl(url.clone()));
            }
        }
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &access.ca {
            let certificates = certificates(pem, "the CA's certificate")?;
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        if let Some((certificate, key)) = &access.identity {
            let chain = certificates(certificate, "the client's certificate")?;
            let key = PrivateKey::from_pem(key.as_bytes()).map_err(|error| EtcdError::BadPem {
                what: "the client's key",
                reason: error.to_string(),
            })?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_connect(Some(CALL))
            .http_status_as_error(false)
            // A proxy for the web's sake is none for etcd.
            .proxy(None)
            .max_redirects(0)
            .build();
        let agent = config.new_agent();
        Ok(Self { agent, access, last: AtomicUsize::new(0), token: Mutex::default() })
    }

    /// Everything under a prefix.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn list(&self, prefix: &str) -> Result<Listing, EtcdError> {
        let (key, range_end) = range(prefix);
        let answer: RangeAnswer =
            self.call("kv/range", &json!({ "key": key, "range_end": range_end }))?;
        let entries = answer.kvs.into_iter().filter_map(|kv| {
            let value = kv.value.unwrap_or_default();
            Some(Entry {
                key: STANDARD.decode(kv.key?).ok()?,
                value: STANDARD.decode(value).ok()?,
                revision: kv.mod_revision.parse().ok()?,
            })
        });
        Ok(Listing { revision: answer.header.revision(), entries: entries.collect() })
    }

    /// Puts a value if the key's revision is still this one (0: if there is none); whether it was.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn put_if(&self, key: &str, value: &[u8], revision: i64) -> Result<bool, EtcdError> {
        let key = STANDARD.encode(key);
        let compare =
            json!([{ "key": key, "target": "MOD", "mod_revision": revision.to_string() }]);
        let put = json!([{ "request_put": { "key": key, "value": STANDARD.encode(value) } }]);
        let answer: TxnAnswer =
            self.call("kv/txn", &json!({ "compare": compare, "success": put }))?;
        Ok(answer.succeeded)
    }

    /// Puts a value over whatever is there.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError> {
        let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
        self.call::<Value>("kv/put", &body).map(drop)
    }

    /// Deletes a key; whether it was there.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn delete(&self, key: &str) -> Result<bool, EtcdError> {
        let answer: DeleteAnswer =
            self.call("kv/deleterange", &json!({ "key": STANDARD.encode(key) }))?;
        Ok(answer.deleted != "0" && !answer.deleted.is_empty())
    }

    /// Waits until something under the prefix has changed after `revision`; whether it has within
    /// `time`.
    ///
    /// # Errors
    /// If etcd can't be reached, goes away meanwhile or says no.
    pub fn wait(&self, prefix: &str, revision: i64, time: Duration) -> Result<bool, EtcdError> {
        let (key, range_end) = range(prefix);
        let from = (revision + 1).to_string();
        let create = json!({ "key": key, "range_end": range_end, "start_revision": from });
        let (url, mut body) = self.open("watch", &json!({ "create_request": create }), time)?;
        let reader = body.with_config().limit(LONGEST).reader();
        // The buffer hands on whatever has come; it doesn't wait to be full.
        let answers = serde_json::Deserializer::from_reader(BufReader::new(reader));
        for answer in answers.into_iter::<WatchAnswer>() {
            match answer {
                Ok(WatchAnswer { error: Some(error), .. }) if error.http_code >= 500 => {
                    return Err(EtcdError::Unreachable(format!("{url}: {}", error.message)));
                }
                Ok(WatchAnswer { error: Some(error), .. }) => {
                    return Err(EtcdError::Refused { url, reason: error.message });
                }
                Ok(WatchAnswer { result: Some(result), .. }) => {
                    // What has been compacted away can't be told: it counts as a change.
                    if !result.events.is_empty() || result.compact_revision.is_some() {
                        return Ok(true);
                    }
                    if result.canceled {
                        return Err(EtcdError::Refused { url, reason: result.cancel_reason });
                    }
                }
                Ok(_) => {}
                Err(error) if error.io_error_kind() == Some(ErrorKind::TimedOut) => break,
                Err(error) if error.is_io() => {
                    return Err(EtcdError::Unreachable(error.to_string()));
                }
                Err(error) => {
                    return Err(EtcdError::Nonsense { url, reason: error.to_string() });
                }
            }
        }
        Ok(false)
    }

    fn call<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, EtcdError> {
        let (url, mut answer) = self.open(path, body, CALL)?;
        let text = answer
            .with_config()
            .limit(LONGEST)
            .read_to_vec()
            .map_err(|error| EtcdError::Unreachable(format!("{url}: {error}")))?;
        serde_json::from_slice(&text)
            .map_err(|error| EtcdError::Nonsense { url, reason: error.to_string() })
    }

    /// Asks one server after the other; gives the body of the first answer.
    fn open(
        &self,
        path: &str,
        body: &Value,
        time: Duration,
    ) -> Result<(String, ureq::Body), EtcdError> {
        let urls = &self.access.urls;
        let first = self.last.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for place in (first..).take(urls.len()).map(|n| n % urls.len()) {
            let url = urls[place].trim_end_matches('/');
            match self.open_at(url, path, body, time) {
                Ok(body) => {
                    self.last.store(place, Ordering::Relaxed);
                    return Ok((url.to_owned(), body));
                }
                Err(EtcdError::Unreachable(reason)) => reasons.push(reason),
                Err(error) => return Err(error),
            }
        }
        Err(EtcdError::Unreachable(reasons.join("; ")))
    }

    fn open_at(
        &self,
        url: &str,
        path: &str,
        body: &Value,
        time: Duration,
    ) -> Result<ureq::Body, EtcdError> {
        let known = self.token();
        let fresh = known.is_none();
        let token = match (known, &self.access.user) {
            (None, Some(user)) => Some(self.authenticate(url, user)?),
            (known, _) => known,
        };
        match self.send(url, path, body, token.as_deref(), time) {
            // It has forgotten the token, or users and roles have changed since.
            Err(EtcdError::Refused { .. }) if !fresh => {
                self.set_token(None);
                self.open_at(url, path, body, time)
            }
            answer => answer,
        }
    }

    fn authenticate(
        &self,
        url: &str,
        (name, password): &(String, String),
    ) -> Result<String, EtcdError> {
        let body = json!({ "name": name, "password": password });
        let mut answer = self.send(url, "auth/authenticate", &body, None, CALL)?;
        let nonsense = |reason: String| EtcdError::Nonsense { url: url.into(), reason };
        let text = answer.read_to_vec().map_err(|error| nonsense(error.to_string()))?;
        let TokenAnswer { token } =
            serde_json::from_slice(&text).map_err(|error| nonsense(error.to_string()))?;
        self.set_token(Some(token.clone()));
        Ok(token)
    }

    fn send(
        &self,
        url: &str,
        path: &str,
        body: &Value,
        token: Option<&str>,
        time: Duration,
    ) -> Result<ureq::Body, EtcdError> {
        let mut request = self.agent.post(format!("{url}/v3/{path}"));
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let request = request.config().timeout_global(Some(time)).build();
        let answer = request
            .content_type("application/json")
            .send(body.to_string())
            .map_err(|error| EtcdError::Unreachable(format!("{url}: {error}")))?;
        let (status, mut body) = (answer.status(), answer.into_body());
        if status.is_success() {
            return Ok(body);
        }
        let text = body.with_config().limit(64 << 10).read_to_string().unwrap_or_default();
        match serde_json::from_str::<ErrorAnswer>(&text) {
            // Without a leader, or still starting: another server may do.
            Ok(answer) if status.is_server_error() => {
                Err(EtcdError::Unreachable(format!("{url}: {}", answer.text())))
            }
            Ok(answer) => Err(EtcdError::Refused { url: url.into(), reason: answer.text() }),
            Err(_) => Err(EtcdError::Nonsense { url: url.into(), reason: status.to_string() }),
        }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_token(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<Certificate<'static>>, EtcdError> {
    let bad = |reason: String| EtcdError::BadPem { what, reason };
    let mut found = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| bad(error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(bad("there is no certificate in it".into())) } else { Ok(found) }
}

/// The first key of a prefix and the first one behind it, as etcd wants them.
fn range(prefix: &str) -> (String, String) {
    let mut end = prefix.as_bytes().to_vec();
    // A prefix is text: its last byte is never the highest.
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    (STANDARD.encode(prefix), STANDARD.encode(end))
}

// The gateway writes numbers of 64 bits as text, and leaves out what is empty or zero.

#[derive(Deserialize, Default)]
#[serde(default)]
struct Header {
    revision: String,
}

impl Header {
    fn revision(&self) -> i64 {
        self.revision.parse().unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct RangeAnswer {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: Option<String>,
    value: Option<String>,
    mod_revision: String,
}

#[derive(Deserialize)]
struct TxnAnswer {
    #[serde(default)]
    succeeded: bool,
}

#[derive(Deserialize)]
struct DeleteAnswer {
    #[serde(default)]
    deleted: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: String,
}

#[derive(Deserialize)]
struct WatchAnswer {
    result: Option<WatchResult>,
    error: Option<WatchError>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WatchError {
    http_code: u16,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WatchResult {
    events: Vec<serde::de::IgnoredAny>,
    canceled: bool,
    cancel_reason: String,
    compact_revision: Option<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: Value,
}

impl ErrorAnswer {
    fn text(self) -> String {
        match self.error {
            _ if !self.message.is_empty() => self.message,
            Value::String(error) => error,
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
