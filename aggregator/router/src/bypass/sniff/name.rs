//! The name that a connection itself gives in its first bytes: TLS (RFC 6066 §3) or HTTP.

/// What the first bytes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// The name.
    Name(String),
    /// There is none, and won't be.
    Nothing,
    /// Not yet.
    More,
}

/// No message that names anything is longer.
const MOST: usize = 16 * 1024;

/// Looks at the first bytes of a TCP connection.
pub(crate) fn of_stream(bytes: &[u8]) -> Look {
    const HANDSHAKE: u8 = 22;
    match bytes.first() {
        None => Look::More,
        Some(&HANDSHAKE) => of_records(bytes),
        Some(byte) if byte.is_ascii_uppercase() => of_http(bytes),
        Some(_) => Look::Nothing,
    }
}

/// TLS records (RFC 8446 §5.1), over which the message may be spread.
fn of_records(mut bytes: &[u8]) -> Look {
    let mut message = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        if header[0] != 22 || header[1] != 3 {
            return Look::Nothing;
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        message.extend_from_slice(&rest[..length.min(rest.len())]);
        bytes = rest.get(length..).unwrap_or_default();
    }
    of_client_hello(&message)
}

/// A ClientHello (RFC 8446 §4.1.2), as much of it as there is.
pub(crate) fn of_client_hello(message: &[u8]) -> Look {
    const CLIENT_HELLO: u8 = 1;
    let Some((head, body)) = message.split_first_chunk::<4>() else {
        return match message.first() {
            Some(&CLIENT_HELLO) | None => Look::More,
            Some(_) => Look::Nothing,
        };
    };
    let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    if head[0] != CLIENT_HELLO || length > MOST {
        return Look::Nothing;
    }
    let whole = body.len() >= length;
    match server_name(&body[..length.min(body.len())]) {
        Ok(Some(name)) => Look::Name(name),
        // As far as it goes, it has no extensions.
        Ok(None) if !whole => Look::More,
        Ok(None) => Look::Nothing,
        // It ends too early: because more is to come, or in itself.
        Err(Short) if whole => Look::Nothing,
        Err(Short) => Look::More,
    }
}

struct Short;

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, Short> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What has its length, of so many bytes, before it.
    fn vector(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let length = self.number(length)?;
        self.take(length)
    }
}

fn server_name(hello: &[u8]) -> Result<Option<String>, Short> {
    const SERVER_NAME: usize = 0;
    const HOST_NAME: usize = 0;
    let mut hello = Reader(hello);
    hello.take(2 + 32)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    if hello.0.is_empty() {
        // Without extensions, as of old.
        return Ok(None);
    }
    let mut left = hello.number(2)?;
    while left >= 4 {
        let kind = hello.number(2)?;
        let extension = hello.vector(2)?;
        left = left.saturating_sub(4 + extension.len());
        if kind == SERVER_NAME {
            let mut list = Reader(extension);
            list.number(2)?;
            let (kind, name) = (list.number(1)?, list.vector(2)?);
            return Ok((kind == HOST_NAME).then(|| text(name)).flatten());
        }
    }
    Ok(None)
}

fn of_http(bytes: &[u8]) -> Look {
    let whole = bytes.windows(4).any(|end| end == b"\r\n\r\n");
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let request = lines.next().unwrap_or_default();
    let is_http = request.windows(8).any(|word| word.starts_with(b" HTTP/1."));
    if bytes.contains(&b'\n') && !is_http {
        return Look::Nothing;
    }
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        // The last line may go on.
        if lines.peek().is_none() {
            break;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && name.eq_ignore_ascii_case(b"host")
        {
            let host = value.trim_ascii().split(|byte| *byte == b':').next().unwrap_or_default();
            return text(host).map_or(Look::Nothing, Look::Name);
        }
    }
    if whole || bytes.len() > MOST { Look::Nothing } else { Look::More }
}

fn text(name: &[u8]) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    if name.is_empty() || name.len() > 255 || !name.iter().all(plain) {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello with this name behind other extensions.
    pub(crate) fn hello(name: &str) -> Vec<u8> {
        let mut extensions = vec![0x0a, 0x0a, 0, 0, 0, 43, 0, 3, 2, 3, 4];
        // A key share as large as those of today.
        extensions.extend([0, 51, 5, 0]);
        extensions.extend([7; 1280]);
        let length = name.len() as u16;
        extensions.extend([0, 0]);
        extensions.extend((length + 5).to_be_bytes());
        extensions.extend((length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend(length.to_be_bytes());
        extensions.extend(name.bytes());
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    fn records(message: &[u8], each: usize) -> Vec<u8> {
        let record = |piece: &[u8]| {
            let mut record = vec![22, 3, 1];
            record.extend((piece.len() as u16).to_be_bytes());
            record.extend(piece);
            record
        };
        message.chunks(each).flat_map(record).collect()
    }

    #[test]
    fn a_tls_name_is_found_as_soon_as_it_is_there() {
        for each in [4000, 700] {
            let bytes = records(&hello("www.example.net"), each);
            let found =
                (0..=bytes.len()).find(|end| of_stream(&bytes[..*end]) != Look::More).unwrap();
            assert_eq!(of_stream(&bytes[..found]), Look::Name("www.example.net".into()));
            assert!(found > 1290, "{found}");
        }
    }

    #[test]
    fn an_http_name_is_found() {
        let text = b"GET / HTTP/1.1\r\nUser-Agent: x\r\nhost: www.example.net:8080\r\n\r\n";
        assert_eq!(of_stream(text), Look::Name("www.example.net".into()));
        assert_eq!(of_stream(&text[..40]), Look::More);
        assert_eq!(of_stream(b"GET / HTTP/1.0\r\n\r\n"), Look::Nothing);
        assert_eq!(of_stream(b"EHLO me\r\nmore"), Look::Nothing);
        assert_eq!(of_stream(b"\0\0"), Look::Nothing);
        assert_eq!(of_stream(b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"), Look::Nothing);
    }

    proptest! {
        #[test]
        fn nothing_panics(at in 0..1500usize, byte: u8, end in 0..1500usize, noise: Vec<u8>) {
            let mut bytes = records(&hello("a.test"), 600);
            bytes.truncate(end);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = of_stream(&bytes);
            let _ = of_stream(&noise);
            let _ = of_client_hello(&noise);
        }
    }
}
