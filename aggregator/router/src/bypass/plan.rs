//! From rules to what the kernel should hold, given the WANs as they are.

use wanbond_linux::bypass::BypassPlan;
use wanbond_linux::firewall::{Bypass, BypassRule, BypassWan, BypassWay};
use wanbond_linux::prefix::IpPrefix;

use super::{Fallback, Rule, Target};

/// The rule that `list bypass` of the globals makes, behind all others.
const LISTED: &str = "_globals";

/// A WAN, as rules need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanNow {
    /// Its name in the configuration.
    pub name: String,
    /// Its path's number.
    pub number: u8,
    /// Its routing table; none while it has none.
    pub table: Option<u32>,
    /// It has an address and a way out over IPv4, and is not known to be dead.
    pub ipv4: bool,
    /// As above.
    pub ipv6: bool,
    /// It has its share of what goes to all WANs.
    pub shares: bool,
}

/// What the kernel should hold; `None`: nothing, as there is no rule, and no connection that an earlier
/// one has sent somewhere (`keep`). `devices` are the LAN's,
/// `device_of` gives the devices that are meant by names of the LAN's networks.
#[must_use]
pub fn plan(
    rules: &[Rule],
    listed: &[IpPrefix],
    devices: &[String],
    device_of: impl Fn(&[String]) -> Vec<String>,
    wans: &[WanNow],
    keep: bool,
) -> Option<BypassPlan> {
    if rules.is_empty() && listed.is_empty() && !keep {
        return None;
    }
    let mut kernel: Vec<BypassRule> =
        rules.iter().filter_map(|rule| in_kernel(rule, &device_of, wans)).collect();
    if !listed.is_empty() {
        kernel.push(BypassRule {
            destinations: listed.to_vec(),
            ..BypassRule::any(LISTED, BypassWay::Any)
        });
    }
    let shares = |wan: &WanNow| BypassWan {
        number: wan.number,
        ipv4: wan.ipv4,
        ipv6: wan.ipv6,
        shares: wan.shares,
    };
    Some(BypassPlan {
        firewall: Bypass {
            devices: devices.to_vec(),
            rules: kernel,
            wans: wans.iter().map(shares).collect(),
        },
        tables: wans.iter().filter_map(|wan| Some((wan.number, wan.table?))).collect(),
    })
}

/// None where it can't fit anything: none of its networks is there at the moment.
fn in_kernel(
    rule: &Rule,
    device_of: impl Fn(&[String]) -> Vec<String>,
    wans: &[WanNow],
) -> Option<BypassRule> {
    let devices = device_of(&rule.lan);
    if devices.is_empty() != rule.lan.is_empty() {
        return None;
    }
    let way = match &rule.to {
        Target::Direct => BypassWay::Any,
        Target::Tunnel => BypassWay::Tunnel,
        Target::Bond => BypassWay::Bond,
        Target::Wan(name) => match wans.iter().find(|wan| wan.name == *name) {
            Some(wan) => {
                BypassWay::Wan { number: wan.number, strict: rule.fallback == Fallback::None }
            }
            // The configuration was checked: it is there, unless there are too many.
            None => BypassWay::Bond,
        },
    };
    Some(BypassRule {
        devices,
        macs: rule.macs.iter().map(|mac| mac.0).collect(),
        sources: rule.sources.clone(),
        destinations: rule.destinations.clone(),
        protocols: rule.protocol_numbers(),
        ports: rule.ports.iter().map(|ports| (ports.first, ports.last)).collect(),
        by_domain: !rule.domains.is_empty(),
        ..BypassRule::any(&rule.name, way)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn wan(name: &str, number: u8, alive: bool) -> WanNow {
        WanNow {
            name: name.into(),
            number,
            table: alive.then_some(7000 + u32::from(number)),
            ipv4: alive,
            ipv6: false,
            shares: alive,
        }
    }

    const TEXT: &str = "config wanbond 'globals'\n\
        \toption enabled '0'\n\tlist lan 'lan'\n\tlist lan 'guest'\n\
        \tlist bypass '192.0.2.0/24'\n\
        config wan 'dsl'\n\toption device 'eth1'\n\
        config wan 'lte'\n\toption device 'wwan0'\n\
        config bypass 'tv'\n\
        \tlist mac '02:00:00:00:00:01'\n\
        \toption to 'wan:dsl'\n\
        config bypass 'bank'\n\
        \tlist domain 'bank.example'\n\
        \toption port '443'\n\
        \toption to 'wan:lte'\n\
        \toption fallback 'none'\n\
        config bypass 'guests'\n\
        \tlist lan_device 'guest'\n\
        \toption to 'direct'\n";

    fn planned(wans: &[WanNow], guest: bool) -> String {
        let config = config::parse("f", TEXT.as_bytes()).unwrap().config;
        let device_of = |names: &[String]| {
            names.iter().filter(|_| guest).map(|name| format!("br-{name}")).collect()
        };
        let lan = ["br-lan".to_owned(), "br-guest".to_owned()];
        let plan =
            plan(&config.bypass, &config.globals.bypass, &lan, device_of, wans, false).unwrap();
        let mut text = plan.firewall.render(None).unwrap();
        text.push_str(&wanbond_linux::routing::render(&[], &plan.rules()));
        text
    }

    #[test]
    fn golden() {
        let text = planned(&[wan("dsl", 0, true), wan("lte", 1, true)], true);
        assert_eq!(text, include_str!("golden.txt"));
    }

    #[test]
    fn dead_wans_and_networks() {
        let text = planned(&[wan("dsl", 0, false), wan("lte", 1, false)], false);
        assert!(text.contains("counter name c_tv return\n"), "{text}");
        assert!(text.contains("counter name c_bank goto to_1\n"), "{text}");
        assert!(text.contains("counter name c__globals return\n"), "{text}");
        assert!(!text.contains("counter name c_guests"), "{text}");
        assert!(!text.contains("lookup 700"), "{text}");
    }

    #[test]
    fn without_rules_there_is_nothing() {
        assert_eq!(plan(&[], &[], &["br-lan".into()], |n| n.to_vec(), &[], false), None);
        let kept = plan(&[], &[], &["br-lan".into()], |n| n.to_vec(), &[], true).unwrap();
        assert!(kept.firewall.rules.is_empty());
    }
}
