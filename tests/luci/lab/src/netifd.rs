//! What netifd says of the lab's router.

use serde_json::{Value, json};
use wanbond_lab::Lab;

/// The device of the LAN on a router of the lab.
const LAN: &str = "lan";

/// The answer of `ubus call network.interface dump`, in the fields that matter: the loopback, the LAN as
/// `lan`, each WAN as a network of its name, which is called after its kind as people do.
pub(crate) fn dump(lab: &Lab) -> Value {
    let mut all = vec![
        interface("loopback", "lo", "static", ("127.0.0.1", 8), None),
        interface("lan", LAN, "static", ("192.168.77.1", 24), None),
    ];
    for (index, wan) in lab.wans().enumerate() {
        let (name, proto) = if index == 0 { ("wan", "dhcp") } else { ("wwan", "qmi") };
        let net = format!("100.64.{}", index + 1);
        let (own, gateway) = (format!("{net}.2"), format!("{net}.1"));
        all.push(interface(name, wan.name(), proto, (&own, 30), Some((&gateway, index))));
    }
    json!({ "interface": all })
}

fn interface(
    name: &str,
    device: &str,
    proto: &str,
    (address, mask): (&str, u8),
    gateway: Option<(&str, usize)>,
) -> Value {
    let metric = gateway.map_or(0, |(_, index)| 10 * (index + 1));
    let route = gateway.map(|(gateway, _)| {
        json!({"target": "0.0.0.0", "mask": 0, "nexthop": gateway, "metric": metric, "source": "0.0.0.0/0"})
    });
    json!({
        "interface": name,
        "up": true,
        "pending": false,
        "available": true,
        "autostart": true,
        "dynamic": false,
        "uptime": 100,
        "l3_device": device,
        "device": device,
        "proto": proto,
        "metric": metric,
        "dns_metric": 0,
        "ipv4-address": [{"address": address, "mask": mask}],
        "ipv6-address": [],
        "ipv6-prefix": [],
        "dns-server": [],
        "route": route.into_iter().collect::<Vec<_>>(),
        "data": {},
    })
}
