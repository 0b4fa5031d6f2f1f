//! One router's file: `routers/NAME.toml`.

use serde::{Deserialize, Serialize};
use wanbond_proto::forward::{Forward, MAX_FORWARDS, Protocol};
use wanbond_proto::keys::{KeyError, PresharedKey, PublicKey};

use crate::directory::RouterEntry;
use crate::forwards::{ParseError, Ports, forward, target_text};
use crate::limits::RouterLimits;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    public_key: String,
    preshared_key: String,
    created: u64,
    #[serde(default = "enabled")]
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inner: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    limits: RouterLimits,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forward: Vec<ForwardSection>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwardSection {
    protocol: ProtocolWord,
    port: PortText,
    to: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolWord {
    Tcp,
    Udp,
}

/// A port may stand there as a number, a range is a text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortText {
    One(u16),
    Text(String),
}

impl ForwardSection {
    fn new(forward: &Forward) -> Self {
        let (first, last) = forward.ports();
        Self {
            protocol: match forward.protocol() {
                Protocol::Tcp => ProtocolWord::Tcp,
                Protocol::Udp => ProtocolWord::Udp,
            },
            port: if first == last {
                PortText::One(first)
            } else {
                PortText::Text(Ports { first, last }.to_string())
            },
            to: target_text(forward),
        }
    }

    fn read(&self) -> Result<Forward, ParseError> {
        let protocol = match self.protocol {
            ProtocolWord::Tcp => Protocol::Tcp,
            ProtocolWord::Udp => Protocol::Udp,
        };
        let ports = match &self.port {
            PortText::One(port) => Ports { first: *port, last: *port },
            PortText::Text(text) => text.parse()?,
        };
        forward(protocol, ports, self.to.parse()?)
    }
}

const fn enabled() -> bool {
    true
}

fn is_default(limits: &RouterLimits) -> bool {
    *limits == RouterLimits::default()
}

const HEADER: &str = "\
# A router that may connect to this server. `enabled = false` refuses it and ends its sessions;
# a section [limits] with flows, lanes, opens_per_second, open_burst, buffers_mib or monthly_gb
# replaces the server's defaults for it. `inner` is the number its addresses inside the tunnel follow from.
# Port forwards are sections [[forward]] with protocol, port and to. The running server notices
# when this file is saved.
";

/// The file's text.
pub(crate) fn write(entry: &RouterEntry) -> String {
    let file = File {
        public_key: entry.public_key.to_string(),
        preshared_key: entry.psk.to_text(),
        created: entry.created,
        enabled: entry.enabled,
        inner: (entry.inner != 0).then_some(entry.inner),
        limits: entry.limits,
        forward: entry.forwards.iter().map(ForwardSection::new).collect(),
    };
    // Texts, numbers and tables at the end: nothing TOML can't hold.
    let body = toml::to_string(&file).unwrap_or_default();
    format!("{HEADER}{body}")
}

/// Reads the file of the router `name`; the error is for people.
pub(crate) fn read(name: &str, text: &str) -> Result<RouterEntry, String> {
    let file: File =
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let public_key: PublicKey =
        file.public_key.parse().map_err(|error: KeyError| format!("`public_key`: {error}"))?;
    let psk: PresharedKey = file
        .preshared_key
        .parse()
        .map_err(|error: KeyError| format!("`preshared_key`: {error}"))?;
    if file.forward.len() > MAX_FORWARDS {
        return Err(format!("more than {MAX_FORWARDS} sections [[forward]]"));
    }
    let forwards = file.forward.iter().map(|section| {
        section.read().map_err(|error| format!("[[forward]] to {}: {error}", section.to))
    });
    Ok(RouterEntry {
        forwards: forwards.collect::<Result<_, _>>()?,
        inner: file.inner.unwrap_or(0),
        name: name.to_owned(),
        public_key,
        psk,
        created: file.created,
        limits: file.limits,
        enabled: file.enabled,
        shared: false,
    })
}

/// The file's text with this number as `inner`, and all else as it was: people edit these files.
pub(super) fn with_number(text: &str, number: u32) -> String {
    let ours = format!("inner = {number}\n");
    let mut out = String::with_capacity(text.len() + ours.len());
    let mut placed = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start();
        // The number stands before the first section.
        let section = bare.starts_with('[');
        let old = !placed && bare.split('=').next().is_some_and(|key| key.trim() == "inner");
        if (section || old) && !placed {
            out.push_str(&ours);
            placed = true;
        }
        if !old {
            out.push_str(line);
        }
    }
    if !placed {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&ours);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(
            key: [u8; 32],
            psk: [u8; 32],
            created in 0..1u64 << 40,
            enabled: bool,
            flows: Option<u32>,
            lanes: Option<u32>,
            inner: u32,
            port in 1..u16::MAX,
            more in 0..100u16,
            host in "10\\.0\\.0\\.[1-9]|fd00::[1-9]",
        ) {
            let entry = RouterEntry {
                name: "home".into(),
                public_key: PublicKey::from_bytes(key),
                psk: PresharedKey::from_bytes(psk),
                created,
                limits: RouterLimits { flows, lanes, ..RouterLimits::default() },
                enabled,
                shared: false,
                inner,
                forwards: vec![
                    Forward::new(Protocol::Udp, port, port.saturating_add(more),
                        host.parse().unwrap(), port).unwrap(),
                    Forward::new(Protocol::Tcp, port, port, host.parse().unwrap(), 9).unwrap(),
                ],
            };
            prop_assert_eq!(read("home", &write(&entry)), Ok(entry));
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = read("x", &text);
        }
    }

    #[test]
    fn a_number_is_added_to_an_older_file_and_nothing_else_changes() {
        let key = "A".repeat(43);
        let head = format!("# mine\npublic_key = \"{key}\"\npreshared_key = \"{key}\"\n");
        for rest in ["created = 1", "created = 1\n", "created = 1\n# why\n[limits]\nflows = 3\n"] {
            let text = format!("{head}{rest}");
            let old = read("x", &text).unwrap();
            let numbered = with_number(&text, 7);
            assert_eq!(read("x", &numbered), Ok(RouterEntry { inner: 7, ..old }), "{numbered}");
            assert!(numbered.starts_with(&head));
            let again = with_number(&numbered, 8);
            assert_eq!(read("x", &again).unwrap().inner, 8);
            assert_eq!(again.replace("inner = 8", "inner = 7"), numbered);
        }
    }

    #[test]
    fn forwards_as_people_write_them() {
        let key = "A".repeat(43);
        let head = format!(
            "public_key = \"{key}\"\npreshared_key = \"{key}\"\ncreated = 1\n[[forward]]\n"
        );
        let read = |section: &str| read("x", &format!("{head}{section}"));
        let text = "protocol = \"tcp\"\nport = \"80\"\nto = \"192.168.1.2:8080\"\n";
        assert_eq!(read(text).unwrap().forwards[0].to_string(), "tcp 80 to 192.168.1.2:8080");
        let bad = "protocol = \"tcp\"\nport = 0\nto = \"192.168.1.2\"\n";
        assert!(read(bad).unwrap_err().contains("[[forward]] to 192.168.1.2: ports go from 1"));
        let bad = "protocol = \"icmp\"\nport = 1\nto = \"192.168.1.2\"\n";
        assert!(read(bad).unwrap_err().contains("unknown variant `icmp`"));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let key = "A".repeat(43);
        let file = |public: &str, psk: &str| {
            format!("public_key = \"{public}\"\npreshared_key = \"{psk}\"\ncreated = 1\n")
        };
        assert!(read("x", &file(&key, &key)).is_ok());
        assert!(read("x", &file("abc", &key)).unwrap_err().contains("`public_key`: a key"));
        assert!(read("x", &file(&key, "?")).unwrap_err().contains("`preshared_key`: a key"));
        assert!(read("x", "created = 1").unwrap_err().contains("missing field `public_key`"));
        let unknown = file(&key, &key) + "limit = 1\n";
        assert!(read("x", &unknown).unwrap_err().contains("unknown field `limit`"));
    }
}
