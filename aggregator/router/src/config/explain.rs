//! A configuration in words, for `wanbond check`.

use std::fmt::Write as _;

use wanbond_control::{DnsWay, Role, TcpMode, WhenServerDown};

use super::{Loaded, Wan, WanLink};

/// Says what the configuration means, a line for each thing. Contains no secret.
#[must_use]
pub fn explain(loaded: &Loaded) -> String {
    let globals = &loaded.config.globals;
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "wanbond is {}",
        if globals.enabled { "on" } else { "off (option enabled '0'): it changes nothing" }
    );
    let _ = writeln!(out, "LAN      {}", globals.lan.join(", "));
    let _ = writeln!(out, "TCP      {}: {}", globals.tcp, tcp(globals.tcp));
    for (i, prefix) in globals.bypass.iter().enumerate() {
        let _ = writeln!(out, "{:8} {prefix}", if i == 0 { "Bypass" } else { "" });
    }
    for (i, line) in super::bypass::explain(&loaded.config).iter().enumerate() {
        let first = i == 0 && globals.bypass.is_empty();
        let _ = writeln!(out, "{:8} {line}", if first { "Bypass" } else { "" });
    }
    let _ = writeln!(
        out,
        "DNS      {}",
        match globals.dns {
            DnsWay::Bond => "what the router asks name servers goes through the tunnel",
            DnsWay::Direct => "what the router asks name servers goes out directly",
        }
    );
    for server in &loaded.config.servers {
        let endpoints: Vec<_> = server.code.endpoints.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "Server   {} at {}", server.name, endpoints.join(", "));
    }
    let _ = writeln!(
        out,
        "         while none can be reached: {}",
        match globals.when_server_down {
            WhenServerDown::Direct => "traffic goes out directly, not bonded",
            WhenServerDown::Block => "traffic is refused, nothing leaves around the server",
        }
    );
    for wan in &loaded.config.wans {
        let _ = writeln!(out, "WAN      {}", line(wan));
    }
    if !loaded.skipped.is_empty() {
        let _ = writeln!(out, "Skipped  {} (option enabled '0')", loaded.skipped.join(", "));
    }
    out
}

fn tcp(mode: TcpMode) -> &'static str {
    match mode {
        TcpMode::Auto => "over MPTCP where it works, else the next best way",
        TcpMode::Mptcp => "over MPTCP only",
        TcpMode::Stream => "as streams inside the tunnel",
        TcpMode::Packet => "as packets through the tunnel",
    }
}

fn line(wan: &Wan) -> String {
    let link = match &wan.link {
        WanLink::Interface(name) => format!("netifd interface {name}"),
        WanLink::Device(name) => format!("device {name}"),
    };
    let role = match wan.role {
        Role::Bond => "bond: always used",
        Role::Backup => "backup: used only while no other is up",
        Role::Overflow => "overflow: used only while the others are full",
        Role::Off => "off: not used",
    };
    let quota = match wan.quota {
        Some(quota) => format!("; {quota} a month from day {}", wan.billing_day),
        None => String::new(),
    };
    format!("{} on {link}, {role}{quota}", wan.name)
}
