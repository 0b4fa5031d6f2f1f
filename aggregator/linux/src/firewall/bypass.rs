//! The router's table for what does not go the bond's usual way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::FirewallError;
use super::lan_tunnel::MARK;
use super::render::{device_set, list};
use crate::owned::Owner;
use crate::prefix::{Family, IpPrefix};
use crate::special::{SPECIAL_V4, SPECIAL_V6};

/// The bit of packets' and connections' marks that says "over the WAN in [`WAN_BITS`]".
pub const BYPASS: u32 = 0x2000_0000;
/// Which WAN, by its path's number.
pub const WAN_BITS: u32 = 0x0f00_0000;
/// With [`MARK`]: through the tunnel, and nowhere else while there is none.
pub const ONLY: u32 = 0x4000_0000;
/// All bits that say where a connection goes.
const FIELD: u32 = BYPASS | WAN_BITS | ONLY | MARK;
/// Addresses that a domain's set holds at most.
const SET_SIZE: u32 = 65_535;

/// The mark of what goes over a WAN.
#[must_use]
pub const fn wan_mark(number: u8) -> u32 {
    BYPASS | (number as u32 & 0x0f) << 24
}

/// Which of the LAN's connections go around the bond, and where they go instead.
///
/// The decision is made on a connection's first packet, before the redirect and the tunnel's table
/// see it, and kept in the connection's mark. It stays while the rules change; only what is not TCP
/// is decided anew when its WAN has died. Never taken away from the bond are packets to the router
/// itself and, unless a rule names them as destinations for one WAN or the tunnel, to private and
/// otherwise special addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bypass {
    /// The LAN's devices.
    pub devices: Vec<String>,
    /// Looked at in order; the first that fits decides.
    pub rules: Vec<BypassRule>,
    /// Every WAN of the configuration.
    pub wans: Vec<BypassWan>,
}

/// A WAN that connections may be sent over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BypassWan {
    /// Its path's number, below 16.
    pub number: u8,
    /// New connections over IPv4 may go there now.
    pub ipv4: bool,
    /// And over IPv6.
    pub ipv6: bool,
    /// It has its share of what goes to [`BypassWay::Any`].
    pub shares: bool,
}

/// What fits, and where it goes. Of each list that is not empty one entry must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BypassRule {
    /// Letters, digits and underscores; names the rule's counter and sets.
    pub name: String,
    /// Devices that it comes in by.
    pub devices: Vec<String>,
    /// Hardware addresses of the sender.
    pub macs: Vec<[u8; 6]>,
    /// Where it comes from.
    pub sources: Vec<IpPrefix>,
    /// Where it goes.
    pub destinations: Vec<IpPrefix>,
    /// IP protocol numbers.
    pub protocols: Vec<u8>,
    /// Destination ports, first and last.
    pub ports: Vec<(u16, u16)>,
    /// Fits only addresses in the rule's own sets, see [`domain_set`].
    pub by_domain: bool,
    /// Where it goes instead.
    pub way: BypassWay,
}

impl BypassRule {
    /// One that everything fits.
    #[must_use]
    pub fn any(name: impl Into<String>, way: BypassWay) -> Self {
        Self {
            name: name.into(),
            devices: Vec::new(),
            macs: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            protocols: Vec::new(),
            ports: Vec::new(),
            by_domain: false,
            way,
        }
    }
}

/// Where connections go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BypassWay {
    /// Over this WAN. While it can't be used they are refused if `strict`, else bonded.
    Wan {
        /// Its path's number.
        number: u8,
        /// No other way will do.
        strict: bool,
    },
    /// Over the WANs that share, each pair of addresses over the same one.
    Any,
    /// As packets through the tunnel; refused while there is none.
    Tunnel,
    /// As without a rule.
    Bond,
}

/// The set of a rule's addresses of one family, which its domain names have.
#[must_use]
pub fn domain_set(rule: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("d_{rule}_v4"),
        Family::V6 => format!("d_{rule}_v6"),
    }
}

/// The name of a rule's counter.
pub(super) fn counter(rule: &str) -> String {
    format!("c_{rule}")
}

impl Bypass {
    /// The ruleset that brings the table from `previous` (as it was last applied; `None`: there is no
    /// table) to this, in one transaction. Counters and the sets of domains keep what they have.
    ///
    /// # Errors
    /// [`FirewallError::BadDevice`] for what nft would choke on.
    pub fn render(&self, previous: Option<&Self>) -> Result<String, FirewallError> {
        let table = Owner::Router.bypass_table();
        let mut text = String::new();
        let _ = writeln!(text, "add table inet {table}");
        if let Some(previous) = previous {
            // Takes the rules, and leaves sets and counters.
            let _ = writeln!(text, "flush table inet {table}");
            let (had, has) = (previous.objects(), self.objects());
            for gone in had.difference(&has) {
                let _ = writeln!(text, "delete {} inet {table} {}", gone.0, gone.1);
            }
        } else {
            let _ = writeln!(text, "delete table inet {table}");
        }
        let _ = writeln!(text, "table inet {table} {{");
        for (family, kind, special) in
            [(Family::V4, "ipv4_addr", SPECIAL_V4), (Family::V6, "ipv6_addr", SPECIAL_V6)]
        {
            let _ = writeln!(text, "\tset {} {{", special_set(family));
            let _ = writeln!(text, "\t\ttype {kind}; flags interval;");
            let _ = writeln!(text, "\t\telements = {{ {} }}", list(special));
            text.push_str("\t}\n");
            for rule in self.rules.iter().filter(|rule| rule.by_domain) {
                let _ = writeln!(text, "\tset {} {{", domain_set(&rule.name, family));
                let _ = writeln!(text, "\t\ttype {kind}; size {SET_SIZE};");
                text.push_str("\t}\n");
            }
        }
        for rule in &self.rules {
            let _ = writeln!(text, "\tcounter {} {{\n\t}}", counter(&rule.name));
        }
        if let Some(devices) = device_set(&self.devices)? {
            self.write_chains(&mut text, &devices)?;
        }
        text.push_str("}\n");
        Ok(text)
    }

    /// Sets and counters that depend on the rules, as nft's words and names.
    fn objects(&self) -> BTreeSet<(&'static str, String)> {
        let counters = self.rules.iter().map(|rule| ("counter", counter(&rule.name)));
        let sets = self.rules.iter().filter(|rule| rule.by_domain).flat_map(|rule| {
            [Family::V4, Family::V6].map(|family| ("set", domain_set(&rule.name, family)))
        });
        counters.chain(sets).collect()
    }

    fn write_chains(&self, text: &mut String, devices: &str) -> Result<(), FirewallError> {
        // Targets first: what jumps there follows.
        for wan in &self.wans {
            let _ = writeln!(text, "\tchain to_{} {{", wan.number);
            write_mark(text, wan_mark(wan.number));
        }
        text.push_str("\tchain to_tunnel {\n");
        write_mark(text, ONLY | MARK);
        for family in [Family::V4, Family::V6] {
            let sharing = self.sharing(family);
            if sharing.len() < 2 {
                continue;
            }
            let (word, name) = words(family);
            let ways: Vec<String> =
                sharing.iter().enumerate().map(|(i, n)| format!("{i} : goto to_{n}")).collect();
            let _ = writeln!(text, "\tchain share_{name} {{");
            // Both addresses: many a site does not bear one visitor with two.
            let _ = writeln!(
                text,
                "\t\tjhash {word} saddr . {word} daddr mod {} seed 0x77616e62 vmap {{ {} }}",
                ways.len(),
                ways.join(", ")
            );
            text.push_str("\t}\n");
        }
        text.push_str("\tchain rules {\n");
        text.push_str("\t\tfib daddr type { local, broadcast, anycast, multicast } return\n");
        for rule in &self.rules {
            for family in [Family::V4, Family::V6] {
                self.write_rule(text, rule, family)?;
            }
        }
        text.push_str("\t}\n");
        self.write_choose(text);
        // Before the tunnel's table chooses, and before the redirect.
        text.push_str("\tchain from_lan {\n");
        text.push_str("\t\ttype filter hook prerouting priority mangle - 1; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {{ {devices} }} ct direction original goto choose");
        text.push_str("\t}\n");
        Ok(())
    }

    /// What a packet's connection has been given, or else the rules.
    fn write_choose(&self, text: &mut String) {
        let way = |wan: &BypassWan| format!("{:#x} : goto to_{}", wan_mark(wan.number), wan.number);
        let (living, dead): (Vec<&BypassWan>, Vec<_>) =
            self.wans.iter().partition(|wan| wan.ipv4 || wan.ipv6);
        let [living, dead] =
            [living, dead].map(|wans| wans.into_iter().map(way).collect::<Vec<_>>().join(", "));
        let mask = BYPASS | WAN_BITS;
        text.push_str("\tchain choose {\n");
        if !living.is_empty() {
            let _ = writeln!(text, "\t\tct mark and {mask:#x} vmap {{ {living} }}");
        }
        let only = ONLY | MARK;
        let _ = writeln!(text, "\t\tct mark and {only:#x} == {only:#x} goto to_tunnel");
        if !dead.is_empty() {
            // TCP would not survive another address, and its WAN may come back.
            let _ = writeln!(text, "\t\tmeta l4proto tcp ct mark and {mask:#x} vmap {{ {dead} }}");
        }
        let _ = writeln!(text, "\t\tct mark and {BYPASS:#x} == {BYPASS:#x} goto anew");
        text.push_str("\t\tct state new goto rules\n");
        text.push_str("\t}\n");
        text.push_str("\tchain anew {\n");
        let _ = writeln!(text, "\t\tct mark set ct mark and {:#x}", !FIELD);
        text.push_str("\t\tgoto rules\n");
        text.push_str("\t}\n");
    }

    fn usable(&self, number: u8, family: Family) -> bool {
        self.wans.iter().any(|wan| wan.number == number && wan.has(family))
    }

    fn sharing(&self, family: Family) -> Vec<u8> {
        let sharing = self.wans.iter().filter(|wan| wan.shares && wan.has(family));
        sharing.map(|wan| wan.number).collect()
    }

    fn write_rule(
        &self,
        text: &mut String,
        rule: &BypassRule,
        family: Family,
    ) -> Result<(), FirewallError> {
        let of_family = |prefixes: &[IpPrefix]| {
            prefixes.iter().copied().filter(|p| p.family() == family).collect::<Vec<_>>()
        };
        let (sources, destinations) = (of_family(&rule.sources), of_family(&rule.destinations));
        if sources.is_empty() != rule.sources.is_empty()
            || destinations.is_empty() != rule.destinations.is_empty()
        {
            return Ok(());
        }
        let (word, name) = words(family);
        let _ = write!(text, "\t\tmeta nfproto ip{name}");
        if let Some(devices) = device_set(&rule.devices)? {
            let _ = write!(text, " iifname {{ {devices} }}");
        }
        if !rule.macs.is_empty() {
            let macs: Vec<String> = rule.macs.iter().map(mac).collect();
            let _ = write!(text, " ether saddr {{ {} }}", macs.join(", "));
        }
        if !sources.is_empty() {
            let _ = write!(text, " {word} saddr {{ {} }}", list(&sources));
        }
        let one_way = matches!(rule.way, BypassWay::Wan { .. } | BypassWay::Tunnel);
        if destinations.is_empty() || !one_way {
            let _ = write!(text, " {word} daddr != @{}", special_set(family));
        }
        if !destinations.is_empty() {
            let _ = write!(text, " {word} daddr {{ {} }}", list(&destinations));
        }
        if rule.by_domain {
            let _ = write!(text, " {word} daddr @{}", domain_set(&rule.name, family));
        }
        if !rule.protocols.is_empty() {
            let numbers: BTreeSet<u8> = rule.protocols.iter().copied().collect();
            let numbers: Vec<String> = numbers.iter().map(u8::to_string).collect();
            let _ = write!(text, " meta l4proto {{ {} }}", numbers.join(", "));
        }
        if !rule.ports.is_empty() {
            let _ = write!(text, " th dport {{ {} }}", ports(&rule.ports));
        }
        let _ = write!(text, " counter name {}", counter(&rule.name));
        let sharing = self.sharing(family);
        let _ = match (rule.way, &sharing[..]) {
            (BypassWay::Wan { number, strict }, _) if strict || self.usable(number, family) => {
                writeln!(text, " goto to_{number}")
            }
            (BypassWay::Any, [only]) => writeln!(text, " goto to_{only}"),
            (BypassWay::Any, [_, _, ..]) => writeln!(text, " goto share_{name}"),
            (BypassWay::Tunnel, _) => writeln!(text, " goto to_tunnel"),
            (BypassWay::Wan { .. } | BypassWay::Any | BypassWay::Bond, _) => {
                writeln!(text, " return")
            }
        };
        Ok(())
    }
}

impl BypassWan {
    const fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

fn write_mark(text: &mut String, mark: u32) {
    let others = !FIELD;
    let _ = writeln!(text, "\t\tct mark set ct mark and {others:#x} or {mark:#x}");
    let _ = writeln!(text, "\t\tmeta mark set meta mark and {others:#x} or {mark:#x}");
    text.push_str("\t}\n");
}

/// nft's word for the family's header, and what names of ours end with.
const fn words(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("ip", "v4"),
        Family::V6 => ("ip6", "v6"),
    }
}

const fn special_set(family: Family) -> &'static str {
    match family {
        Family::V4 => "special_v4",
        Family::V6 => "special_v6",
    }
}

fn mac(octets: &[u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Ranges without overlaps, which nft refuses.
fn ports(ranges: &[(u16, u16)]) -> String {
    let mut joined: BTreeMap<u16, u16> = BTreeMap::new();
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    for (first, last) in sorted {
        match joined.last_entry() {
            Some(mut entry) if first <= entry.get().saturating_add(1) => {
                let end = last.max(*entry.get());
                entry.insert(end);
            }
            _ => {
                joined.insert(first, last);
            }
        }
    }
    let range = |(first, last): (&u16, &u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    joined.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(list: &[&str]) -> Vec<IpPrefix> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    const fn wan(number: u8, ipv4: bool, ipv6: bool, shares: bool) -> BypassWan {
        BypassWan { number, ipv4, ipv6, shares }
    }

    fn bypass() -> Bypass {
        Bypass {
            devices: vec!["br-lan".into(), "br-guest".into()],
            rules: vec![
                BypassRule {
                    macs: vec![[2, 0, 0, 0xab, 0xcd, 0xef]],
                    ..BypassRule::any("console", BypassWay::Wan { number: 1, strict: false })
                },
                BypassRule {
                    sources: prefixes(&["192.168.1.50", "192.168.1.48/29"]),
                    protocols: vec![17, 6, 17],
                    ports: vec![(5060, 5061), (5061, 5070), (5071, 5071), (443, 443)],
                    ..BypassRule::any("phone", BypassWay::Wan { number: 0, strict: true })
                },
                BypassRule { by_domain: true, ..BypassRule::any("video", BypassWay::Any) },
                BypassRule {
                    devices: vec!["br-guest".into()],
                    ..BypassRule::any("guests", BypassWay::Tunnel)
                },
                BypassRule {
                    destinations: prefixes(&["192.168.8.1", "2001:db8::/32"]),
                    ..BypassRule::any("modem", BypassWay::Wan { number: 1, strict: true })
                },
                BypassRule { protocols: vec![1, 58], ..BypassRule::any("pings", BypassWay::Bond) },
            ],
            wans: vec![
                wan(0, true, true, true),
                wan(1, true, false, true),
                wan(2, false, false, false),
            ],
        }
    }

    #[test]
    fn golden() {
        assert_eq!(bypass().render(None).unwrap(), include_str!("golden_bypass.nft"));
    }

    #[test]
    fn a_change_keeps_sets_and_counters_that_stay() {
        let mut after = bypass();
        after.rules.remove(2);
        after.rules[0].name = "games".into();
        let text = after.render(Some(&bypass())).unwrap();
        let head = "add table inet wanbond-bypass\nflush table inet wanbond-bypass\n\
                    delete counter inet wanbond-bypass c_console\n\
                    delete counter inet wanbond-bypass c_video\n\
                    delete set inet wanbond-bypass d_video_v4\n\
                    delete set inet wanbond-bypass d_video_v6\n\
                    table inet wanbond-bypass {\n";
        assert!(text.starts_with(head), "{text}");
    }

    #[test]
    fn a_wan_that_dies_is_left_by_what_may() {
        let mut dead = bypass();
        dead.wans[1] = wan(1, false, false, false);
        let text = dead.render(None).unwrap();
        for line in [
            "ether saddr { 02:00:00:ab:cd:ef } ip daddr != @special_v4 counter name c_console return",
            "ip daddr { 192.168.8.1/32 } counter name c_modem goto to_1",
            "ip daddr @d_video_v4 counter name c_video goto to_0",
            "ct mark and 0x2f000000 vmap { 0x20000000 : goto to_0 }",
            "meta l4proto tcp ct mark and 0x2f000000 vmap { 0x21000000 : goto to_1, 0x22000000 : goto to_2 }",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("jhash"), "{text}");
        let none = Bypass { wans: Vec::new(), ..bypass() }.render(None).unwrap();
        assert!(none.contains("counter name c_video return"), "{none}");
    }

    #[test]
    fn odd_names_are_refused() {
        let odd = Bypass { devices: vec!["a b".into()], ..bypass() };
        assert!(matches!(odd.render(None), Err(FirewallError::BadDevice(_))));
        assert!(!Bypass::default().render(None).unwrap().contains("chain"));
    }
}
