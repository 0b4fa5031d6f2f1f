//! As much of HTTP/1.1 as the lab's own client and origin speak to one another.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request without its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    query: String,
    pub(crate) content_length: u64,
}

impl Request {
    /// A number in the query.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(k, _)| *k == key)?.1.parse().ok()
    }

    fn parse(head: &str) -> Option<Self> {
        let (line, fields) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            content_length: content_length(fields),
        })
    }
}

fn content_length(fields: &str) -> u64 {
    let pairs = fields.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// Reads up to the empty line; `buffer` carries what came behind it to the next call. None at the
/// stream's end.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<String>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = buffer.split_off(at + 4);
            let head = std::mem::replace(buffer, rest);
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if buffer.len() > 64 * 1024 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "endless head"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return match buffer.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

/// The next request on a connection; none when the client has closed it.
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let Some(head) = read_head(stream, buffer).await? else { return Ok(None) };
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "not HTTP");
    Request::parse(&head).ok_or_else(bad).map(Some)
}

/// Reads an answer's head: its body's length.
pub(crate) async fn read_response(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<u64> {
    let head = read_head(stream, buffer).await?;
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (line, fields) = head.split_once("\r\n").ok_or_else(|| bad("no status line"))?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(bad(line));
    }
    Ok(content_length(fields))
}

pub(crate) async fn respond_head(
    stream: &mut (impl AsyncWrite + Unpin),
    length: u64,
) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

pub(crate) async fn respond(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    respond_head(stream, body.len() as u64).await?;
    stream.write_all(body).await
}

pub(crate) async fn refuse(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_requests_in_one_piece() {
        let mut wire: &[u8] = b"POST /sink?seed=7&x=y HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n\r\nabcGET /peer HTTP/1.1\r\n\r\n";
        let mut buffer = Vec::new();
        let first = read_request(&mut wire, &mut buffer).await.unwrap().unwrap();
        assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/sink"));
        assert_eq!((first.number("seed"), first.content_length), (Some(7), 3));
        while buffer.len() < 3 {
            wire.read_buf(&mut buffer).await.unwrap();
        }
        assert_eq!(buffer.drain(..3).collect::<Vec<_>>(), b"abc");
        let second = read_request(&mut wire, &mut buffer).await.unwrap().unwrap();
        assert_eq!((second.path.as_str(), second.content_length), ("/peer", 0));
        assert_eq!(read_request(&mut wire, &mut buffer).await.unwrap(), None);
    }
}
