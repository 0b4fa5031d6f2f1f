//! One policy rule of ours.

use std::fmt;

use crate::prefix::{Family, IpPrefix};

/// What happens to a packet that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// Look in this table.
    Table(u32),
    /// Tell the sender that there is no way.
    Unreachable,
    /// Drop it silently.
    Blackhole,
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedRule {
    /// The family it is for.
    pub family: Family,
    /// Rules are tried in ascending order; the main table's is 32766.
    pub priority: u32,
    /// Only packets from here.
    pub source: Option<IpPrefix>,
    /// Only packets to there.
    pub destination: Option<IpPrefix>,
    /// Only packets whose mark, under this mask, is this.
    pub fwmark: Option<(u32, u32)>,
    /// Only packets that came in through this device. A device that doesn't exist yet is allowed.
    pub input: Option<String>,
    /// Ignore what the table says with a prefix of this length or shorter: 0 leaves its default
    /// routes out.
    pub suppress_prefix_len: Option<u8>,
    /// What then.
    pub action: RuleAction,
}

impl OwnedRule {
    /// A rule for every packet, to be narrowed by the caller.
    #[must_use]
    pub const fn new(family: Family, priority: u32, action: RuleAction) -> Self {
        Self {
            family,
            priority,
            source: None,
            destination: None,
            fwmark: None,
            input: None,
            suppress_prefix_len: None,
            action,
        }
    }

    /// What comes from `source` looks in `table`.
    #[must_use]
    pub const fn from(source: IpPrefix, priority: u32, table: u32) -> Self {
        let mut rule = Self::new(source.family(), priority, RuleAction::Table(table));
        rule.source = Some(source);
        rule
    }
}

/// In the words of `ip rule`.
impl fmt::Display for OwnedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "rule",
            Family::V6 => "rule6",
        };
        write!(f, "{family} {}: from ", self.priority)?;
        match self.source {
            Some(source) if source.is_host() => write!(f, "{}", source.addr())?,
            Some(source) => write!(f, "{source}")?,
            None => f.write_str("all")?,
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some((mark, mask)) = self.fwmark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        if let Some(input) = &self.input {
            write!(f, " iif {input}")?;
        }
        match self.action {
            RuleAction::Table(table) => write!(f, " lookup {table}")?,
            RuleAction::Unreachable => f.write_str(" unreachable")?,
            RuleAction::Blackhole => f.write_str(" blackhole")?,
        }
        if let Some(len) = self.suppress_prefix_len {
            write!(f, " suppress_prefixlength {len}")?;
        }
        Ok(())
    }
}
