//! `fleet/settings.toml`: where etcd is, and the fleet's key. Written by the command line.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::FleetKey;
use super::etcd::Access;

/// Where in etcd a fleet's list is unless told otherwise.
pub const DEFAULT_PREFIX: &str = "/wanbond/";

/// What is wrong with a fleet's settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Not TOML, an unknown key or a wrong value.
    #[error("{0}")]
    Syntax(String),
    /// A prefix that can't be kept apart from others.
    #[error("'{0}' is no prefix; use some text that ends in '/', such as {DEFAULT_PREFIX}")]
    Prefix(String),
    /// Not the key of a fleet.
    #[error("this is no fleet's key ({0}); copy all that `wanbond-server fleet key` prints")]
    Key(String),
    /// Half of what a client shows.
    #[error("a client's certificate and key go together")]
    HalfIdentity,
    /// Half of a user.
    #[error("a user and a password go together")]
    HalfUser,
}

/// How a server takes part in a fleet.
#[derive(Clone)]
pub struct Settings {
    /// Where etcd is.
    pub access: Access,
    /// What the names of all the fleet's entries begin with.
    pub prefix: String,
    /// The fleet's key.
    pub key: FleetKey,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Settings");
        shown.field("urls", &self.access.urls).field("prefix", &self.prefix);
        shown.finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    etcd: Vec<String>,
    prefix: String,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
}

const HEADER: &str = "\
# The fleet this server is in: where etcd is, how to get in, and the key that all its servers have.
# Written by `wanbond-server fleet start|join`; a running server follows within half a minute.
";

impl Settings {
    /// Looks at what the file's form leaves open.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn check(&self) -> Result<(), SettingsError> {
        let plain = self.prefix.bytes().all(|b| b.is_ascii_graphic());
        if !plain || self.prefix.len() < 2 || !self.prefix.ends_with('/') {
            return Err(SettingsError::Prefix(self.prefix.clone()));
        }
        Ok(())
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let access = self.access.clone();
        let (user, password) = access.user.unzip();
        let (certificate, private_key) = access.identity.unzip();
        let file = File {
            etcd: access.urls,
            prefix: self.prefix.clone(),
            key: self.key.to_text().to_owned(),
            user,
            password,
            ca: access.ca,
            certificate,
            private_key,
        };
        // Texts only: nothing TOML can't hold.
        let body = Zeroizing::new(toml::to_string(&file).unwrap_or_default());
        Zeroizing::new(format!("{HEADER}{}", *body))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, SettingsError> {
        let file: File = toml::from_str(text)
            .map_err(|error| SettingsError::Syntax(error.to_string().trim_end().to_owned()))?;
        let key = file.key.parse().map_err(|error| SettingsError::Key(format!("{error}")))?;
        let pair = |a: Option<String>, b: Option<String>, half: SettingsError| match (a, b) {
            (Some(a), Some(b)) => Ok(Some((a, b))),
            (None, None) => Ok(None),
            _ => Err(half),
        };
        let settings = Self {
            access: Access {
                urls: file.etcd,
                user: pair(file.user, file.password, SettingsError::HalfUser)?,
                ca: file.ca,
                identity: pair(file.certificate, file.private_key, SettingsError::HalfIdentity)?,
            },
            prefix: file.prefix,
            key,
        };
        settings.check()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Settings {
        Settings {
            access: Access {
                urls: vec!["https://a:2379".into(), "http://b:2379".into()],
                user: Some(("wanbond".into(), "se\"cret\n".into())),
                ca: Some("-----BEGIN\nx\n".into()),
                identity: Some(("c".into(), "k".into())),
            },
            prefix: "/wanbond/".into(),
            key: FleetKey::draw().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let settings = full();
        let read = Settings::from_text(&settings.to_text()).unwrap();
        assert!(read.access == settings.access && read.prefix == settings.prefix);
        assert_eq!(read.key.to_text(), settings.key.to_text());
        assert!(!format!("{settings:?}").contains("cret"));
    }

    #[test]
    fn halves_and_nonsense_are_told() {
        let text = full().to_text();
        for (old, new, said) in [
            ("user = \"wanbond\"\n", "", "go together"),
            ("private_key = \"k\"\n", "", "go together"),
            ("prefix = \"/wanbond/\"", "prefix = \"/wanbond\"", "no prefix"),
            ("prefix = \"/wanbond/\"", "prefix = \"/\"", "no prefix"),
            ("key = \"", "key = \"?", "no fleet's key"),
            ("etcd = ", "etc = ", "unknown field"),
        ] {
            let error = Settings::from_text(&text.replacen(old, new, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{new}: {error}");
        }
    }
}
