//! Closed sets of words, each spelled one way in configuration, command line and JSON.
//!
//! Parsing is exact (no other case, no abbreviations), and a wrong word is answered with the
//! allowed ones. Sets that only appear in documents have a variant `Unknown`, which JSON of a
//! newer daemon falls back to.

use std::fmt;

use thiserror::Error;

/// A word that is not in the set it was looked up in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{given}' is not {what}{}; use {}", hint(.given, .allowed), list(.allowed))]
pub struct UnknownWord {
    /// What was written.
    pub given: String,
    /// What was expected, with its article: "a role".
    pub what: &'static str,
    /// The words that would have been right.
    pub allowed: &'static [&'static str],
}

fn hint(given: &str, allowed: &[&str]) -> String {
    match nearest(given, allowed) {
        Some(word) => format!(" (did you mean '{word}'?)"),
        None => String::new(),
    }
}

/// Joins words as a sentence does: `a`, `a or b`, `a, b or c`.
#[must_use]
pub fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The word of `known` that `given` is most likely a misspelling of, if any is near enough.
///
/// Near means: equal but for case, or at most one edit in words of up to four letters and at most
/// two in longer ones, where an edit adds, drops or changes a letter or swaps two neighbours.
#[must_use]
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer texts are no misspelt keyword, and the distance costs their product.
    const LONGEST: usize = 40;
    if given.len() > LONGEST {
        return None;
    }
    let given = given.to_lowercase();
    known
        .iter()
        .map(|word| (edits(&given, &word.to_lowercase()), *word))
        .filter(|(edits, word)| *edits <= if word.len() <= 4 { 1 } else { 2 })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, word)| word)
}

/// Optimal string alignment distance.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

macro_rules! words {
    (
        $(#[$meta:meta])*
        $name:ident, $what:literal, default $default:ident {
            $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+
        }
        $(else $fallback:ident)?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            $(
                /// A word this version does not know.
                $fallback,
            )?
        }

        impl $name {
            /// Every known value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The spelling of every value in [`Self::ALL`].
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The one spelling of this value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    $(Self::$fallback => "unknown",)?
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord {
                        given: text.to_owned(),
                        what: $what,
                        allowed: Self::WORDS,
                    }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        let parsed = text.parse::<$name>();
                        $(let parsed = parsed.or(Ok::<_, UnknownWord>($name::$fallback));)?
                        parsed.map_err(E::custom)
                    }
                }
                from.deserialize_str(Visitor)
            }
        }
    };
}

words! {
    /// When a WAN is used.
    Role, "a role", default Bond {
        /// Always, together with the other `bond` WANs.
        Bond = "bond",
        /// Only while no `bond` or `overflow` WAN is up.
        Backup = "backup",
        /// Only while the `bond` WANs are full: a metered link.
        Overflow = "overflow",
        /// Never.
        Off = "off",
    }
}

words! {
    /// How what the router itself asks name servers goes, which it mostly asks for the LAN.
    DnsWay, "a way for DNS", default Bond {
        /// Through the tunnel.
        Bond = "bond",
        /// Over a WAN, as without wanbond.
        Direct = "direct",
    }
}

words! {
    /// What a WAN is able to do at the moment.
    WanState, "a WAN state", default Unknown {
        /// No link, address or route, or the server does not answer over it.
        Down = "down",
        /// It has an address, and the server is being tried over it.
        Probing = "probing",
        /// It carries traffic.
        Up = "up",
        /// The server answers, but so badly that traffic avoids it.
        Degraded = "degraded",
        /// Switched off by its configured role.
        Off = "off",
        /// Switched off by hand, until it is resumed or the daemon starts again.
        Paused = "paused",
    }
    else Unknown
}

words! {
    /// What became of MPTCP on a WAN, by what really happened there.
    MptcpState, "an MPTCP state", default Unknown {
        /// A connection or subflow over this WAN speaks MPTCP.
        Working = "working",
        /// Something on the way removes the option: plain TCP there.
        Stripped = "stripped",
        /// This kernel has no MPTCP, or it is switched off.
        Unsupported = "unsupported",
    }
    else Unknown
}

words! {
    /// What the tunnel makes of a WAN.
    PathState, "a path's state", default Unknown {
        /// It answers.
        Live = "live",
        /// An answer is overdue.
        Suspect = "suspect",
        /// It has not answered for a while.
        Down = "down",
    }
    else Unknown
}

words! {
    /// How the router stands with its server.
    ServerState, "a server state", default Unknown {
        /// Handshakes are being sent.
        Connecting = "connecting",
        /// There is a session.
        Connected = "connected",
        /// It answers, and is used if the one in use is gone.
        Standby = "standby",
        /// The server answered that it does not know this router: removed, or a wrong code.
        UnknownRouter = "unknown_router",
        /// The server answers, but its key is not the one of the pairing code.
        WrongKey = "wrong_key",
        /// No answer over any WAN.
        Unreachable = "unreachable",
        /// The server's host name has no address at the moment.
        UnresolvedName = "unresolved_name",
        /// The server speaks another version of the protocol.
        VersionMismatch = "version_mismatch",
        /// No WAN is able to carry anything.
        NoWan = "no_wan",
        /// wanbond is switched off by its configuration.
        Off = "off",
    }
    else Unknown
}

words! {
    /// What the session's own messages travel on.
    Carrier, "a carrier", default Unknown {
        /// UDP datagrams.
        Udp = "udp",
        /// A TCP connection, where UDP is blocked.
        Tcp = "tcp",
    }
    else Unknown
}

words! {
    /// How the LAN's TCP goes.
    TcpMode, "a way for TCP", default Auto {
        /// MPTCP lanes where they work and harm nobody, else the next best.
        Auto = "auto",
        /// MPTCP lanes only.
        Mptcp = "mptcp",
        /// Reliable streams inside the tunnel.
        Stream = "stream",
        /// As packets through the tunnel.
        Packet = "packet",
    }
}

words! {
    /// What happens to the LAN's traffic while no server can be reached.
    WhenServerDown, "an answer to a server that is down", default Direct {
        /// It goes out directly over a living WAN, not bonded.
        Direct = "direct",
        /// It is refused, so that nothing ever leaves around the server.
        Block = "block",
    }
}

words! {
    /// How much the daemon logs.
    LogLevel, "a log level", default Info {
        /// Only what stops it from working.
        Error = "error",
        /// And what is worth waking someone.
        Warn = "warn",
        /// And the life events of WANs and servers.
        Info = "info",
        /// And decisions, which may name addresses.
        Debug = "debug",
        /// And every flow.
        Trace = "trace",
    }
}

words! {
    /// How grave an event is.
    Level, "an event level", default Info {
        /// Part of life.
        Info = "info",
        /// Something a person should look at.
        Warning = "warning",
    }
    else Unknown
}

words! {
    /// What an event is about.
    EventKind, "an event kind", default Unknown {
        /// The daemon started.
        Started = "started",
        /// The daemon stops.
        Stopping = "stopping",
        /// The configuration was read again.
        Reloaded = "reloaded",
        /// The new configuration was wrong; the old one stays.
        ReloadFailed = "reload_failed",
        /// A WAN changed its state.
        WanState = "wan_state",
        /// A WAN was given another role.
        WanRole = "wan_role",
        /// A WAN's addresses, gateway or device changed.
        WanAddress = "wan_address",
        /// What is known about MPTCP on a WAN changed.
        WanMptcp = "wan_mptcp",
        /// TCP goes over MPTCP, or over the tunnel's streams, from now on.
        TcpWay = "tcp_way",
        /// The state of a server changed.
        ServerState = "server_state",
        /// A WAN has carried a good part of its quota, or all of it.
        Quota = "quota",
        /// A limit on flows, lanes or memory was reached.
        Limit = "limit",
    }
    else Unknown
}

words! {
    /// How a long job stands.
    TaskState, "a task's state", default Unknown {
        /// It is at it.
        Running = "running",
        /// It is over, and has a report.
        Done = "done",
        /// It came to nothing, or was cancelled.
        Failed = "failed",
    }
    else Unknown
}

words! {
    /// Why a request was not carried out.
    ErrorCode, "an error code", default Unknown {
        /// Not a request, or one this version does not know.
        BadRequest = "bad_request",
        /// There is no WAN of that name.
        UnknownWan = "unknown_wan",
        /// There is no task of that number, or not any more.
        UnknownTask = "unknown_task",
        /// Another task is running.
        Busy = "busy",
        /// The asker may not do that.
        NotAllowed = "not_allowed",
        /// The configuration file is wrong; the message says where.
        BadConfig = "bad_config",
        /// It was tried and failed; the message says why.
        Failed = "failed",
    }
    else Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values_match_both_ways() {
        for (role, word) in Role::ALL.iter().zip(Role::WORDS) {
            assert_eq!(role.as_str(), *word);
            assert_eq!(word.parse::<Role>().as_ref(), Ok(role));
            assert_eq!(serde_json::to_string(role).unwrap(), format!("\"{word}\""));
        }
    }

    #[test]
    fn a_wrong_word_is_told_the_right_ones() {
        let error = "bondd".parse::<Role>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "'bondd' is not a role (did you mean 'bond'?); use bond, backup, overflow or off"
        );
        let error = "primary".parse::<Role>().unwrap_err();
        assert_eq!(error.to_string(), "'primary' is not a role; use bond, backup, overflow or off");
    }

    #[test]
    fn documents_of_a_newer_daemon_are_read() {
        assert_eq!(serde_json::from_str::<WanState>("\"warp\"").unwrap(), WanState::Unknown);
        assert!(serde_json::from_str::<Role>("\"warp\"").is_err());
        assert!(serde_json::from_str::<WanState>("7").is_err());
    }

    #[test]
    fn near_misses() {
        let known = ["role", "interface", "device", "quota"];
        assert_eq!(nearest("rol", &known), Some("role"));
        assert_eq!(nearest("Role", &known), Some("role"));
        assert_eq!(nearest("interfcae", &known), Some("interface"));
        assert_eq!(nearest("devcies", &known), Some("device"));
        assert_eq!(nearest("mtu", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
