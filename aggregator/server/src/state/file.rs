//! One router's file: `routers/NAME.toml`.

use serde::{Deserialize, Serialize};
use wanbond_proto::keys::{KeyError, PresharedKey, PublicKey};

use crate::directory::RouterEntry;
use crate::limits::RouterLimits;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    public_key: String,
    preshared_key: String,
    created: u64,
    #[serde(default = "enabled")]
    enabled: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    limits: RouterLimits,
}

const fn enabled() -> bool {
    true
}

fn is_default(limits: &RouterLimits) -> bool {
    *limits == RouterLimits::default()
}

const HEADER: &str = "\
# A router that may connect to this server. `enabled = false` refuses it and ends its sessions;
# a section [limits] with flows, lanes, opens_per_second, open_burst or buffers_mib replaces the
# server's defaults for it. The running server notices when this file is saved.
";

/// The file's text.
pub(super) fn write(entry: &RouterEntry) -> String {
    let file = File {
        public_key: entry.public_key.to_string(),
        preshared_key: entry.psk.to_text(),
        created: entry.created,
        enabled: entry.enabled,
        limits: entry.limits,
    };
    // Texts, numbers and one table at the end: nothing TOML can't hold.
    let body = toml::to_string(&file).unwrap_or_default();
    format!("{HEADER}{body}")
}

/// Reads the file of the router `name`; the error is for people.
pub(super) fn read(name: &str, text: &str) -> Result<RouterEntry, String> {
    let file: File =
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let public_key: PublicKey =
        file.public_key.parse().map_err(|error: KeyError| format!("`public_key`: {error}"))?;
    let psk: PresharedKey = file
        .preshared_key
        .parse()
        .map_err(|error: KeyError| format!("`preshared_key`: {error}"))?;
    Ok(RouterEntry {
        name: name.to_owned(),
        public_key,
        psk,
        created: file.created,
        limits: file.limits,
        enabled: file.enabled,
    })
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
        ) {
            let entry = RouterEntry {
                name: "home".into(),
                public_key: PublicKey::from_bytes(key),
                psk: PresharedKey::from_bytes(psk),
                created,
                limits: RouterLimits { flows, lanes, ..RouterLimits::default() },
                enabled,
            };
            prop_assert_eq!(read("home", &write(&entry)), Ok(entry));
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = read("x", &text);
        }
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
