use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A server that gives these answers, one a connection, and tells what it was asked.
fn scripted(answers: Vec<(u16, &'static str)>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            let mut buffer = [0; 4096];
            let whole = |asked: &str| {
                let (head, body) = asked.split_once("\r\n\r\n")?;
                let length = head.to_lowercase();
                let (_, length) = length.split_once("content-length: ")?;
                let length = length.split("\r\n").next()?.parse::<usize>().ok()?;
                (body.len() >= length).then_some(())
            };
            while whole(&asked).is_none() {
                let n = stream.read(&mut buffer).unwrap();
                asked.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            let length = answer.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{answer}"
            )
            .unwrap();
            tell.send(asked).unwrap();
        }
    });
    (url, told)
}

fn etcd(urls: &[&str], user: bool) -> Etcd {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    let user = user.then(|| ("wanbond".to_owned(), "secret".to_owned()));
    Etcd::new(Access { urls, user, ..Access::default() }).unwrap()
}

/// Where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

const EMPTY: &str = r#"{"header":{"revision":"7"}}"#;

#[test]
fn addresses_and_certificates_are_looked_at_first() {
    for bad in
        ["", "etcd:2379", "ftp://a:1", "http://", "http://a b:1", "http://u:p@a:1", "http://a/v3"]
    {
        let access = Access { urls: vec![bad.into()], ..Access::default() };
        assert!(matches!(Etcd::new(access), Err(EtcdError::BadUrl(_))), "{bad}");
    }
    let urls = vec!["https://[2001:db8::1]:2379/".to_owned()];
    assert!(Etcd::new(Access { urls: urls.clone(), ..Access::default() }).is_ok());
    let ca = Some("no certificate".into());
    let error = Etcd::new(Access { urls, ca, ..Access::default() }).unwrap_err();
    assert!(error.to_string().contains("the CA's certificate"), "{error}");
}

#[test]
fn a_listing_is_read_as_the_gateway_writes_it() {
    let (url, told) = scripted(vec![(
        200,
        r#"{"header":{"cluster_id":"1","revision":"12"},"kvs":[
            {"key":"L3gvYQ==","create_revision":"2","mod_revision":"11","version":"3","value":"dg=="},
            {"key":"L3gvYg==","mod_revision":"9"}],"count":"2"}"#,
    )]);
    let listing = etcd(&[&url], false).list("/x/").unwrap();
    let entry = |key: &[u8], value: &[u8], revision| Entry {
        key: key.to_vec(),
        value: value.to_vec(),
        revision,
    };
    let entries = vec![entry(b"/x/a", b"v", 11), entry(b"/x/b", b"", 9)];
    assert_eq!(listing, Listing { revision: 12, entries });
    let asked = told.recv().unwrap();
    assert!(asked.starts_with("POST /v3/kv/range HTTP/1.1\r\n"), "{asked}");
    // "/x/" and "/x0".
    assert!(asked.contains("\"L3gv\"") && asked.contains("\"L3gw\""), "{asked}");
}

#[test]
fn the_next_server_is_asked_when_one_is_gone() {
    let (dead, (url, _told)) = (nobody(), scripted(vec![(200, EMPTY), (200, EMPTY)]));
    let two = etcd(&[&dead, &url], false);
    assert_eq!(two.list("/x/").unwrap().revision, 7);
    assert_eq!(two.last.load(Ordering::Relaxed), 1);
    // And one that has no leader.
    let (lost, _) = scripted(vec![(503, r#"{"error":"etcdserver: no leader","code":14}"#)]);
    assert_eq!(etcd(&[&lost, &url], false).list("/x/").unwrap().revision, 7);
    let error = etcd(&[&dead], false).list("/x/").unwrap_err();
    assert!(matches!(error, EtcdError::Unreachable(_)), "{error}");
}

#[test]
fn a_forgotten_token_is_fetched_anew_and_a_wrong_password_is_told() {
    let token = r#"{"header":{},"token":"abc.1"}"#;
    let refused = r#"{"error":"etcdserver: invalid auth token","code":16,"message":"etcdserver: invalid auth token"}"#;
    let (url, told) =
        scripted(vec![(200, token), (200, EMPTY), (401, refused), (200, token), (200, EMPTY)]);
    let etcd_ = etcd(&[&url], true);
    etcd_.list("/x/").unwrap();
    etcd_.list("/x/").unwrap();
    let asked: Vec<String> = told.iter().take(5).collect();
    assert!(asked[0].starts_with("POST /v3/auth/authenticate") && asked[0].contains("secret"));
    assert!(asked[1].to_lowercase().contains("authorization: abc.1"), "{}", asked[1]);
    assert!(asked[3].starts_with("POST /v3/auth/authenticate"));

    let wrong =
        r#"{"error":"etcdserver: authentication failed, invalid user ID or password","code":3}"#;
    let (url, _told) = scripted(vec![(400, wrong)]);
    let error = etcd(&[&url], true).list("/x/").unwrap_err();
    assert!(error.to_string().contains("refuses: etcdserver: authentication failed"), "{error}");
}

#[test]
fn something_else_than_etcd_is_told() {
    let (url, _told) = scripted(vec![(404, "<html>"), (200, "<html>"), (200, "[]")]);
    let etcd = etcd(&[&url], false);
    for _ in 0..3 {
        let error = etcd.list("/x/").unwrap_err();
        assert!(matches!(error, EtcdError::Nonsense { .. }), "{error}");
    }
}

#[test]
fn a_watch_ends_with_a_change() {
    let created = r#"{"result":{"header":{"revision":"7"},"created":true}}"#;
    for (answer, changed) in [
        (r#"{"result":{"created":true}}{"result":{"events":[{"type":"DELETE"}]}}"#, Some(true)),
        (
            r#"{"result":{"created":true}}{"result":{"compact_revision":"5","canceled":true}}"#,
            Some(true),
        ),
        (created, Some(false)),
        (r#"{"result":{"canceled":true,"cancel_reason":"permission denied"}}"#, None),
        (r#"{"error":{"grpc_code":7}}"#, None),
        (r#"{"error":{"http_code":503,"message":"transport is closing"}}"#, None),
        ("{\"result\":}", None),
    ] {
        let (url, told) = scripted(vec![(200, answer)]);
        let waited = etcd(&[&url], false).wait("/x/", 7, Duration::from_secs(20));
        assert_eq!(waited.ok(), changed, "{answer}");
        // From the revision after the one that is known.
        assert!(told.recv().unwrap().contains(r#""start_revision":"8""#));
    }
}
