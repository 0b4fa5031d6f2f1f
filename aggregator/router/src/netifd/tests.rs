//! Documents as netifd gives them, field by field; addresses are those for documentation.

use std::collections::BTreeMap;

use wanbond_linux::netstate::{Addr, Device, NetState};

use super::*;
use crate::wan::facts::Facts;

/// DSL by PPPoE, whose IPv6 netifd has put on an interface of its own; a modem that has no network yet; one
/// that was pulled.
const PPPOE: &str = r#"{"interface":[
    {"interface":"lan","up":true,"pending":false,"available":true,"autostart":true,"dynamic":false,
     "uptime":402,"l3_device":"br-lan","proto":"static","device":"br-lan","metric":0,
     "dns_metric":0,"delegation":true,"ipv4-address":[{"address":"192.168.1.1","mask":24}],
     "ipv6-address":[],"ipv6-prefix":[],"ipv6-prefix-assignment":[{"address":"2001:db8:5:10::",
     "mask":60,"local-address":{"address":"2001:db8:5:10::1","mask":60}}],"route":[],
     "dns-server":[],"dns-search":[],"neighbors":[],"inactive":{"ipv4-address":[],
     "ipv6-address":[],"route":[],"dns-server":[],"dns-search":[],"neighbors":[]},"data":{}},
    {"interface":"wan","up":true,"pending":false,"available":true,"autostart":true,"dynamic":false,
     "uptime":390,"l3_device":"pppoe-wan","proto":"pppoe","device":"eth1.7",
     "updated":["addresses","routes"],"metric":10,"dns_metric":0,"delegation":true,
     "ipv4-address":[{"address":"198.51.100.77","mask":32,"ptpaddress":"203.0.113.1"}],
     "ipv6-address":[{"address":"fe80::a1","mask":128}],"ipv6-prefix":[],
     "ipv6-prefix-assignment":[],"route":[
        {"target":"0.0.0.0","mask":0,"nexthop":"203.0.113.1","metric":10,"source":"0.0.0.0/0"},
        {"target":"192.0.2.0","mask":24,"nexthop":"203.0.113.9","source":"0.0.0.0/0"}],
     "dns-server":["203.0.113.53"],"dns-search":[],"neighbors":[],"inactive":{"ipv4-address":[],
     "ipv6-address":[],"route":[],"dns-server":[],"dns-search":[],"neighbors":[]},"data":{}},
    {"interface":"wan_6","up":true,"pending":false,"available":true,"autostart":true,"dynamic":true,
     "uptime":388,"l3_device":"pppoe-wan","proto":"dhcpv6","device":"pppoe-wan","metric":10,
     "ipv4-address":[],"ipv6-address":[{"address":"2001:db8:4:1::77","mask":64,"preferred":1600,
     "valid":3400}],"ipv6-prefix":[{"address":"2001:db8:5::","mask":56,"preferred":1600,
     "valid":3400,"class":"wan_6","assigned":{"lan":{"address":"2001:db8:5:10::","mask":60}}}],
     "route":[
        {"target":"::","mask":0,"nexthop":"fe80::1","metric":512,"valid":1788,
         "source":"2001:db8:5::/56"},
        {"target":"::","mask":0,"nexthop":"fe80::1","metric":512,"valid":1788,
         "source":"2001:db8:4:1::77/64"}],"dns-server":[],"data":{"passthru":"00170010"}},
    {"interface":"lte","up":false,"pending":true,"available":true,"autostart":true,"dynamic":false,
     "device":"wwan0","proto":"qmi","data":{},
     "errors":[{"subsystem":"qmi","code":"NO_NETWORK"}]},
    {"interface":"usb","up":false,"pending":false,"available":false,"autostart":true,"dynamic":false,
     "proto":"modemmanager","data":{}}
]}"#;

/// Three modems: QMI with bare IP and an interface for each family; MBIM likewise, IPv4 alone; one by
/// `ModemManager`, which sets the address itself.
const MODEMS: &str = r#"{"interface":[
    {"interface":"wwan","up":true,"pending":false,"available":true,"dynamic":false,"uptime":61,
     "l3_device":"wwan0","proto":"qmi","device":"wwan0","metric":20,"ipv4-address":[],
     "ipv6-address":[],"route":[],"data":{}},
    {"interface":"wwan_4","up":true,"pending":false,"available":true,"dynamic":true,"uptime":60,
     "l3_device":"wwan0","proto":"dhcp","device":"wwan0","metric":20,
     "ipv4-address":[{"address":"10.72.9.130","mask":30}],"route":[
        {"target":"0.0.0.0","mask":0,"nexthop":"10.72.9.129","metric":20,
         "source":"10.72.9.130/32"}],"data":{"leasetime":7200}},
    {"interface":"wwan_6","up":true,"pending":false,"available":true,"dynamic":true,"uptime":60,
     "l3_device":"wwan0","proto":"dhcpv6","device":"wwan0","metric":20,
     "ipv6-address":[{"address":"2001:db8:72::5","mask":64}],"route":[
        {"target":"2001:db8:72::","mask":64,"nexthop":"::","metric":256,"source":"::/0"},
        {"target":"::","mask":0,"nexthop":"::","metric":512,"source":"2001:db8:72::5/64"}]},
    {"interface":"train","up":true,"pending":false,"available":true,"dynamic":false,
     "l3_device":"wwan1","proto":"mbim","device":"wwan1","route":[]},
    {"interface":"train_4","up":true,"pending":false,"available":true,"dynamic":true,
     "l3_device":"wwan1","proto":"static","device":"wwan1",
     "ipv4-address":[{"address":"100.81.3.2","mask":32}],"route":[
        {"target":"0.0.0.0","mask":0,"nexthop":"0.0.0.0","metric":30,"source":"0.0.0.0/0"}]},
    {"interface":"boat","up":true,"pending":false,"available":true,"dynamic":false,
     "l3_device":"wwan2","proto":"modemmanager","device":"/sys/devices/platform/usb1/1-1",
     "ipv4-address":[{"address":"100.99.0.6","mask":29}],"route":[
        {"target":"0.0.0.0","mask":0,"nexthop":"100.99.0.1","metric":40,
         "source":"100.99.0.6/32"}]}
]}"#;

fn known(dump: &str) -> Interfaces {
    Interfaces::from_dump(&serde_json::from_str(dump).unwrap()).unwrap()
}

fn route(gateway: &str, only_from: &str) -> DefaultRoute {
    let gateway: Option<IpAddr> = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
    let only_from: Option<IpPrefix> = (!only_from.is_empty()).then(|| only_from.parse().unwrap());
    let six = gateway.is_some_and(|ip| ip.is_ipv6())
        || only_from.is_some_and(|prefix| prefix.family() == Family::V6);
    DefaultRoute { family: if six { Family::V6 } else { Family::V4 }, gateway, only_from }
}

#[test]
fn a_network_is_where_its_device_is_with_the_routes_of_both_families() {
    let wan = known(PPPOE).place("wan").unwrap();
    assert_eq!(wan.device, "pppoe-wan");
    let expected = [
        route("203.0.113.1", ""),
        route("fe80::1", "2001:db8:5::/56"),
        route("fe80::1", "2001:db8:4:1::/64"),
    ];
    assert_eq!(wan.routes, expected);
    assert_eq!(known(PPPOE).place("wan_6").unwrap().device, "pppoe-wan");
    for (name, why) in [
        ("lte", "network lte is being brought up (NO_NETWORK)"),
        ("usb", "network usb is without its device"),
        ("dsl", "there is no network dsl in /etc/config/network"),
    ] {
        assert_eq!(known(PPPOE).place(name).unwrap_err(), why);
    }
}

#[test]
fn modems_are_where_their_interfaces_for_each_family_are() {
    let modems = known(MODEMS);
    let wwan = modems.place("wwan").unwrap();
    assert_eq!(wwan.device, "wwan0");
    let expected = [route("10.72.9.129", "10.72.9.130/32"), route("", "2001:db8:72::/64")];
    assert_eq!(wwan.routes, expected);
    let train = modems.place("train").unwrap();
    assert_eq!((train.device.as_str(), &train.routes[..]), ("wwan1", &[route("", "")][..]));
    let boat = modems.place("boat").unwrap();
    assert_eq!(boat.routes, [route("100.99.0.1", "100.99.0.6/32")]);
}

/// The kernel's side, which has no default route in its main table for any of them.
fn kernel(device: &str, addresses: &[(&str, u8)]) -> NetState {
    let addresses = addresses.iter().map(|(ip, prefix_len)| Addr {
        ip: ip.parse().unwrap(),
        prefix_len: *prefix_len,
        peer: None,
        temporary: false,
    });
    let device = Device {
        index: 7,
        name: device.to_owned(),
        up: true,
        loopback: false,
        mtu: 1492,
        addresses: addresses.collect(),
        gateways: Vec::new(),
    };
    NetState { devices: BTreeMap::from([(device.name.clone(), device)]) }
}

fn ways(dump: &str, network: &str, kernel: &NetState) -> Vec<(String, Option<String>)> {
    let place = known(dump).place(network).unwrap();
    let facts = Facts::find(kernel, &place.device, &place.routes).unwrap();
    let way = |way: &crate::wan::facts::Way| {
        (way.source.to_string(), way.gateway.map(|gateway| gateway.to_string()))
    };
    facts.ways.iter().map(way).collect()
}

#[test]
fn ways_out_leave_from_the_address_that_its_provider_routes() {
    let both = |source: &str, gateway: &str| {
        (source.to_owned(), (!gateway.is_empty()).then(|| gateway.to_owned()))
    };
    // An address that the provider does not route comes first.
    let dsl = [("198.51.100.77", 32), ("fd00:1::77", 64), ("2001:db8:4:1::77", 64)];
    assert_eq!(
        ways(PPPOE, "wan", &kernel("pppoe-wan", &dsl)),
        [both("198.51.100.77", "203.0.113.1"), both("2001:db8:4:1::77", "fe80::1")]
    );
    let modem = [("10.72.9.130", 30), ("2001:db8:72::5", 64)];
    assert_eq!(
        ways(MODEMS, "wwan", &kernel("wwan0", &modem)),
        [both("10.72.9.130", "10.72.9.129"), both("2001:db8:72::5", "")]
    );
    let bare = kernel("wwan1", &[("100.81.3.2", 32)]);
    assert_eq!(ways(MODEMS, "train", &bare), [both("100.81.3.2", "")]);
}

#[test]
fn what_leads_to_the_internet_is_known_by_the_name_in_its_configuration() {
    assert_eq!(known(PPPOE).uplinks().unwrap(), ["wan"]);
    assert_eq!(known(MODEMS).uplinks().unwrap(), ["wwan", "train", "boat"]);
    assert_eq!(Interfaces::Unknown.uplinks(), None);
    assert!(known(PPPOE).is_mobile("lte") && !known(PPPOE).is_mobile("wan"));
    for modem in ["wwan", "train", "boat"] {
        assert!(known(MODEMS).is_mobile(modem), "{modem}");
    }
}

#[test]
fn lans_are_networks_or_devices() {
    let names = ["lan", "eth7", "usb"].map(str::to_owned);
    assert_eq!(known(PPPOE).devices(&names), ["br-lan", "eth7"]);
    assert_eq!(Interfaces::Unknown.devices(&names), names);
}

#[test]
fn without_netifd_names_are_devices() {
    let place = Interfaces::Unknown.place("eth1").unwrap();
    assert_eq!(place, Place { device: "eth1".to_owned(), routes: Vec::new() });
    assert_eq!(Interfaces::from_dump(&Value::Null), None);
}
