//! The object `wanbond`: its methods, from ubus' calls to the daemon's requests and back.

use ubus::BlobMsgType;
use wanbond_control::request::{Request, Response, to_line};
use wanbond_control::words::ErrorCode;

use super::blobmsg::Value;
use super::wire::status;

/// Where it is.
pub(super) const PATH: &str = "wanbond";

type Argument = (&'static str, BlobMsgType);

/// Methods and what they take, as `ubus -v list wanbond` shows. A call becomes the request of the same
/// name; what a method does and answers is said at [`Request`].
const METHODS: &[(&str, &[Argument])] = &[
    ("status", &[]),
    (
        "wan",
        &[
            ("name", BlobMsgType::STRING),
            ("action", BlobMsgType::STRING),
            ("role", BlobMsgType::STRING),
        ],
    ),
    ("history", &[("name", BlobMsgType::STRING), ("seconds", BlobMsgType::INT32)]),
    ("events", &[("since", BlobMsgType::INT32)]),
    ("reload", &[]),
    ("diagnose", &[]),
    ("pairing", &[("code", BlobMsgType::STRING)]),
    ("speedtest", &[("name", BlobMsgType::STRING), ("seconds", BlobMsgType::INT32)]),
    ("drill", &[("name", BlobMsgType::STRING), ("seconds", BlobMsgType::INT32)]),
    ("support", &[]),
    ("task", &[("id", BlobMsgType::INT32), ("cancel", BlobMsgType::BOOL)]),
];

/// What to register the object with.
pub(super) fn signature() -> Vec<u8> {
    let arguments = |arguments: &[Argument]| {
        let kind = |kind: BlobMsgType| Value::Integer(kind.value().into());
        Value::Table(arguments.iter().map(|(name, k)| ((*name).to_owned(), kind(*k))).collect())
    };
    let methods = METHODS.iter().map(|(name, args)| ((*name).to_owned(), arguments(args)));
    Value::Table(methods.collect()).to_blobmsg()
}

/// An answer, ready for ubus.
pub(super) type Answer = (u32, Option<Value>);

/// The request that a call means.
///
/// # Errors
/// The answer to a call that means none.
pub(super) fn request(method: &str, arguments: Value) -> Result<Request, Answer> {
    if !METHODS.iter().any(|(name, _)| *name == method) {
        return Err((status::METHOD_NOT_FOUND, None));
    }
    let Value::Table(mut fields) = arguments else {
        return Err((status::INVALID_ARGUMENT, None));
    };
    fields.retain(|(name, _)| name != "method");
    let given = |name: &str| fields.iter().any(|(n, _)| n == name);
    // A role alone says what is wanted.
    if method == "wan" && given("role") && !given("action") {
        fields.push(("action".to_owned(), Value::Text("role".to_owned())));
    }
    fields.insert(0, ("method".to_owned(), Value::Text(method.to_owned())));
    let line = serde_json::to_string(&Value::Table(fields));
    let line = line.map_err(|_| (status::INVALID_ARGUMENT, None))?;
    Request::from_line(line.as_bytes()).map_err(|error| answer(&Response::Error(error)))
}

/// What a response is on ubus: the document itself, without the name of its kind; for an error, what went
/// wrong besides the status.
pub(super) fn answer(response: &Response) -> Answer {
    let code = match response {
        Response::Error(error) => match error.code {
            ErrorCode::BadRequest => status::INVALID_ARGUMENT,
            ErrorCode::UnknownWan | ErrorCode::UnknownTask => status::NOT_FOUND,
            ErrorCode::NotAllowed => status::PERMISSION_DENIED,
            _ => status::UNKNOWN_ERROR,
        },
        _ => status::OK,
    };
    match document(response) {
        Some(Value::Table(mut fields)) if fields.len() == 1 => {
            (code, fields.pop().map(|(_, document)| document))
        }
        _ => (status::UNKNOWN_ERROR, None),
    }
}

/// What is serialized, as a value.
pub(super) fn document<T: serde::Serialize>(of: &T) -> Option<Value> {
    serde_json::from_str(&to_line(of).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use wanbond_control::Role;
    use wanbond_control::request::{ErrorReply, WanAction};
    use wanbond_control::status::Status;

    use super::*;

    fn arguments(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn calls_become_requests() {
        let off = WanAction::Role { role: Role::Off };
        for (method, text, expected) in [
            ("status", r#"{"ubus_rpc_session":"0"}"#, Request::Status),
            ("events", r#"{"since":7}"#, Request::Events { since: 7 }),
            ("events", "{}", Request::Events { since: 0 }),
            (
                "history",
                r#"{"name":"lte","seconds":60}"#,
                Request::History { name: "lte".into(), seconds: Some(60) },
            ),
            (
                "wan",
                r#"{"name":"lte","role":"off"}"#,
                Request::Wan { name: "lte".into(), action: off },
            ),
            (
                "wan",
                r#"{"name":"lte","action":"down","method":"status"}"#,
                Request::Wan { name: "lte".into(), action: WanAction::Down },
            ),
        ] {
            assert_eq!(request(method, arguments(text)), Ok(expected), "{method} {text}");
        }
    }

    #[test]
    fn wrong_calls_are_told_why() {
        let (code, none) = request("explode", arguments("{}")).unwrap_err();
        assert_eq!((code, none), (status::METHOD_NOT_FOUND, None));
        assert!(request("watch", arguments("{}")).is_err(), "nobody could read its answers");
        let (code, why) = request("wan", arguments(r#"{"name":"lte","role":"x"}"#)).unwrap_err();
        assert_eq!(code, status::INVALID_ARGUMENT);
        let why = why.unwrap();
        let message = why.get("message").and_then(Value::as_str).unwrap();
        assert!(message.contains("'x' is not a role"), "{message}");
        assert_eq!(request("wan", Value::Null), Err((status::INVALID_ARGUMENT, None)));
    }

    #[test]
    fn the_document_is_the_command_lines() {
        let status = Status { version: "1".into(), uptime_s: 2.5, ..Status::default() };
        let (code, document) = answer(&Response::Status(Box::new(status.clone())));
        assert_eq!(code, status::OK);
        assert_eq!(
            serde_json::to_string(&document.unwrap()).unwrap(),
            serde_json::to_string(&status).unwrap()
        );
        let gone = Response::Error(ErrorReply::new(ErrorCode::UnknownWan, "no"));
        assert_eq!(answer(&gone).0, status::NOT_FOUND);
    }
}
