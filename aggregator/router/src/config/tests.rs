use proptest::prelude::*;
use wanbond_proto::keys::SecretKey;
use wanbond_proto::pairing::RouterSeed;

use super::*;

fn code(seed: u8) -> String {
    PairingCode {
        server: SecretKey::from_bytes([7; 32]).public(),
        endpoints: vec!["vps.example.net".parse().unwrap()],
        seed: RouterSeed::from_bytes([seed; 32]),
    }
    .to_string()
}

fn server() -> String {
    format!("config server 'vps'\n\toption code '{}'\n", code(1))
}

const WANS: &str = "config wan 'fibre'\n\toption interface 'wan'\n\
                    config wan 'dsl'\n\toption device 'eth2'\n";

fn good(text: &str) -> Loaded {
    parse("f", text.as_bytes()).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn bad(text: &str) -> String {
    lines(&parse("f", text.as_bytes()).unwrap_err())
}

#[test]
fn the_documented_example() {
    let text = format!(
        "config wanbond 'globals'\n\
         \toption enabled '1'\n\
         \tlist lan 'lan'                 # comment\n\
         \tlist lan 'br-guest'\n\
         \toption tcp 'mptcp'\n\
         \toption when_server_down 'block'\n\
         \tlist bypass '192.0.2.77/24'\n\
         \tlist bypass '2001:db8::/32'\n\
         \toption redirect_port '4000'\n\
         \toption log_level 'debug'\n\
         {}\
         config wan 'fibre'\n\
         \toption interface 'wan'\n\
         \toption role 'bond'\n\
         config wan 'lte'\n\
         \toption device 'wwan0'\n\
         \toption role 'overflow'\n\
         \toption quota '50 GB'\n\
         \toption billing_day '14'\n\
         config wan 'old'\n\
         \toption enabled '0'\n\
         \toption role 'nonsense'\n",
        server()
    );
    let loaded = good(&text);
    assert_eq!(loaded.warnings, []);
    let Config { globals, servers, wans, bypass } = &loaded.config;
    assert_eq!(
        *globals,
        Globals {
            enabled: true,
            lan: vec!["lan".into(), "br-guest".into()],
            tcp: TcpMode::Mptcp,
            when_server_down: WhenServerDown::Block,
            bypass: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            redirect_port: 4000,
            log_level: LogLevel::Debug,
            ..Globals::default()
        }
    );
    assert_eq!(*bypass, []);
    assert_eq!(servers[0].name, "vps");
    assert_eq!(servers[0].code.to_string(), code(1));
    assert_eq!(
        *wans,
        [
            Wan {
                name: "fibre".into(),
                link: WanLink::Interface("wan".into()),
                role: Role::Bond,
                quota: None,
                billing_day: 1
            },
            Wan {
                name: "lte".into(),
                link: WanLink::Device("wwan0".into()),
                role: Role::Overflow,
                quota: Some(Bytes(50_000_000_000)),
                billing_day: 14
            },
        ]
    );
    assert_eq!(
        explain(&loaded),
        "wanbond is on\n\
         LAN      lan, br-guest\n\
         TCP      mptcp: over MPTCP only\n\
         Bypass   192.0.2.0/24\n         2001:db8::/32\n\
         DNS      what the router asks name servers goes through the tunnel\n\
         Server   vps at vps.example.net:65101\n         \
         while none can be reached: traffic is refused, nothing leaves around the server\n\
         WAN      fibre on netifd interface wan, bond: always used\n\
         WAN      lte on device wwan0, overflow: used only while the others are full; 50.0 GB a month from day 14\n\
         Skipped  wan 'old' (option enabled '0')\n"
    );
}

#[test]
fn what_is_not_said_has_defaults() {
    let loaded = good(&format!("{}{WANS}", server()));
    assert_eq!(loaded.config.globals, Globals::default());
    assert_eq!(loaded.warnings, []);
    // A freshly installed package: off, and nothing to complain about.
    let loaded = good("config wanbond 'globals'\n\toption enabled '0'\n");
    assert!(!loaded.config.globals.enabled);
    assert_eq!(loaded.warnings, []);
    let anonymous = "config wan\n\toption device 'eth1'\nconfig wan\n\toption interface 'wan'\n";
    let loaded = good(&format!("config server\n\toption code '{}'\n{anonymous}", code(1)));
    assert_eq!(loaded.config.servers[0].name, "server1");
    assert_eq!(loaded.config.wans[0].name, "eth1");
    assert_eq!(loaded.config.wans[1].name, "wan");
}

#[test]
fn an_option_may_list_with_blanks() {
    let loaded = good(&format!("config wanbond g\n\toption lan 'lan  guest'\n{}{WANS}", server()));
    assert_eq!(loaded.config.globals.lan, ["lan", "guest"]);
}

#[test]
fn all_wrong_values_are_told_at_once() {
    assert_eq!(
        bad("config wanbond 'globals'\n\
             \toption enabled 'maybe'\n\
             \toption tcp 'mtcp'\n\
             \toption when_server_down 'leak'\n\
             \tlist bypass '192.0.2.0/33'\n\
             \toption redirect_port '0'\n\
             \toption log_level 'loud'\n\
             \tlist lan ''\n\
             config server 'vps'\n\
             \toption code 'hello'\n\
             config wan 'lte'\n\
             \toption role 'bondd'\n\
             \toption quota 'much'\n\
             \toption billing_day '32'\n\
             config wan 'fibre'\n\
             \toption interface 'wan'\n\
             \toption device 'eth1'\n\
             config wan 'dsl'\n\
             \tlist device 'eth2'\n\
             config wan 'long'\n\
             \toption device 'a_very_long_name'\n"),
        "f:2: option 'enabled' of wanbond 'globals': 'maybe' is neither on nor off; use 1 or 0\n\
         f:3: option 'tcp' of wanbond 'globals': 'mtcp' is not a way for TCP (did you mean 'mptcp'?); use auto, mptcp, stream or packet\n\
         f:4: option 'when_server_down' of wanbond 'globals': 'leak' is not an answer to a server that is down; use direct or block\n\
         f:5: option 'bypass' of wanbond 'globals': `192.0.2.0/33` is not a network; write an address and a prefix length, such as 192.0.2.0/24\n\
         f:6: option 'redirect_port' of wanbond 'globals': '0' is not a port; use a number from 1 to 65535\n\
         f:7: option 'log_level' of wanbond 'globals': 'loud' is not a log level; use error, warn, info, debug or trace\n\
         f:8: option 'lan' of wanbond 'globals': '' is not the name of a network or device, such as 'wan' or 'eth1'\n\
         f:10: option 'code' of server 'vps': a pairing code starts with \"wanbond1:\"; copy the whole line that `wanbond-server router add` printed\n\
         f:11: wan 'lte' names no link; add option interface (a netifd name such as 'wan') or option device (such as 'eth1')\n\
         f:12: option 'role' of wan 'lte': 'bondd' is not a role (did you mean 'bond'?); use bond, backup, overflow or off\n\
         f:13: option 'quota' of wan 'lte': 'much' is not an amount of data; write a number and B, kB, MB, GB or TB, such as '50 GB'\n\
         f:14: option 'billing_day' of wan 'lte': '32' is not a day of the month; use a number from 1 to 31\n\
         f:17: option 'device' of wan 'fibre': the WAN also has option interface (line 16); keep interface where netifd runs (OpenWrt), else device\n\
         f:19: option 'device' of wan 'dsl': it has one value, not a list; write option device 'eth2'\n\
         f:21: option 'device' of wan 'long': 'a_very_long_name' is too long for a device; names have at most 15 characters"
    );
}

#[test]
fn what_contradicts_itself_is_wrong() {
    let text = format!(
        "{}config server 'two'\n\toption code '{}'\n\
         config wan 'a'\n\toption device 'eth1'\n\
         config wan 'b'\n\toption device 'eth1'\n\
         config wan 'c'\n\toption interface 'lan'\n\
         config wan\n\toption interface 'a'\n\
         config wanbond\nconfig wanbond\n",
        server(),
        code(1)
    );
    assert_eq!(
        bad(&text),
        "f:3: server 'two' has the same code as server 'vps'; remove one of them\n\
         f:7: wan 'b' has the same device eth1 as wan 'a' (line 5); remove one of them\n\
         f:9: wan 'c' uses interface lan, which is also in list lan; it can only be one of both\n\
         f:11: there is a wan 'a' already (line 5); give this one another name\n\
         f:14: there is a section of type wanbond already (line 13); put all of its options there"
    );
    let nothing = bad("");
    assert!(
        nothing.contains("f: there is no server; run 'wanbond-server router add NAME'"),
        "{nothing}"
    );
    assert!(nothing.contains("f: there is no WAN; add a section"), "{nothing}");
    // Switched off ones are no servers either.
    assert!(
        bad(&format!("{}\toption enabled 'no'\n{WANS}", server())).contains("there is no server")
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let text = format!(
        "config wanbnd 'globals'\n\
         config interface 'x'\n\
         {}\
         \toption endpoint 'vps'\n\
         config wan 'fibre'\n\
         \toption devcie 'eth1'\n\
         \toption device 'eth1'\n\
         \toption billing_day '3'\n\
         \toption role 'off'\n",
        server()
    );
    let warnings = good(&text).warnings;
    assert_eq!(
        lines(&warnings),
        "f:1: a section of type 'wanbnd' means nothing here; did you mean 'wanbond'?\n\
         f:2: a section of type 'interface' means nothing here and is ignored\n\
         f:5: option 'endpoint' of server 'vps': there is no such option, it is ignored; there are enabled and code\n\
         f:7: option 'devcie' of wan 'fibre': there is no such option; did you mean 'device'?\n\
         f:9: option 'billing_day' of wan 'fibre': without option quota it has no effect\n\
         f: every WAN has the role 'off', so nothing can be carried; give one of them the role 'bond'"
    );
    let one = format!("{}config wan 'a'\n\toption device 'eth1'\n", server());
    assert_eq!(good(&one).warnings.len(), 1);
}

#[test]
fn bypasses() {
    let text = format!(
        "{}{WANS}\
         config bypass 'voice'\n\
         \tlist source '192.168.1.50'\n\
         \toption protocol 'udp'\n\
         \tlist port '5060-5070'\n\
         \toption to 'wan:dsl'\n\
         \toption fallback 'none'\n\
         config bypass\n\
         \toption domain 'Example.net example.org'\n\
         \toption to 'direct'\n\
         config bypass 'old'\n\
         \toption enabled '0'\n",
        server()
    );
    let loaded = good(&text);
    assert_eq!(loaded.warnings, []);
    let lines: Vec<String> = explain(&loaded).lines().map(str::to_owned).collect();
    for line in [
        "Bypass   voice: from 192.168.1.50/32; by udp; port 5060-5070 → over wan dsl or not at all",
        "         bypass2: to example.net, example.org → over the living WANs, not bonded",
        "Skipped  bypass 'old' (option enabled '0')",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {lines:?}");
    }
}

#[test]
fn wrong_bypasses_name_the_section_and_what_is_right() {
    let text = format!(
        "{}{WANS}config wan 'old'\n\toption enabled '0'\n\
         config bypass 'a'\n\toption to 'wan:dls'\n\tlist port '80'\n\
         config bypass 'b'\n\toption to 'wann:dsl'\n\tlist port '80-'\n\tlist mac '1'\n\
         config bypass 'c'\n\toption to 'direct'\n\
         config bypass 'd'\n\tlist domain 'x.de'\n\
         config bypass 'e'\n\toption to 'wan:old'\n\tlist domain '*.x.de'\n\
         config bypass 'f'\n\toption to 'wan:old'\n\tlist lan_device 'guest'\n\
         config bypass 'g'\n\toption to 'tunnel'\n\toption fallback 'none'\n\toption port '1'\n\
         config bypass 'h'\n\toption to 'direct'\n\tlist protocol 'icmp'\n\tlist port '1'\n",
        server()
    );
    assert_eq!(
        bad(&text),
        "f:9: option 'to' of bypass 'a': there is no wan 'dls'; there are: fibre, dsl\n\
         f:13: option 'to' of bypass 'b': 'wann:dsl' is no way to go; use direct, wan:NAME (the name of a wan section), tunnel or bond\n\
         f:14: option 'port' of bypass 'b': '80-' is not a port or a range; use numbers from 1 to 65535, such as '443' or '5060-5070'\n\
         f:15: option 'mac' of bypass 'b': '1' is not a hardware address, such as '02:11:22:aa:bb:cc'\n\
         f:16: bypass 'c': it says nothing about what it is for; add lan_device, mac, source, destination, protocol, port or domain\n\
         f:18: bypass 'd' has no option to; write direct, wan:NAME (the name of a wan section), tunnel or bond\n\
         f:22: option 'domain' of bypass 'e': '*.x.de': what is below a domain is meant anyway; write 'x.de'\n\
         f:23: option 'lan_device' of bypass 'f': 'guest' is not in list lan, so nothing of it is bonded anyway; there are lan\n\
         f:23: option 'to' of bypass 'f': wan 'old' is not enabled\n\
         f:26: bypass 'g': option fallback goes with option to 'wan:NAME' only\n\
         f:30: bypass 'h': option port goes with protocol tcp, udp or sctp only; icmp has no ports"
    );
    let text = format!(
        "{}{WANS}config bypass 'all'\n\tlist port '1-1000'\n\toption to 'direct'\n\
         config bypass 'web'\n\tlist port '80'\n\toption to 'wan:dsl'\n",
        server()
    );
    assert_eq!(
        lines(&good(&text).warnings),
        "f:10: bypass 'web' is of no use: bypass 'all' (line 7) stands before it and takes all that it is for; put it before that one"
    );
}

#[test]
fn a_code_never_shows() {
    let loaded = good(&format!("{}{WANS}", server()));
    let secret = &code(1)["wanbond1:".len()..][44..];
    assert!(!format!("{loaded:?}{}", explain(&loaded)).contains(&secret[..20]));
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wanbond");
    let error = load(&path).unwrap_err();
    assert!(matches!(error, LoadError::Unreadable { .. }));
    assert!(error.to_string().ends_with("create it, or name another one with --config FILE"));
    assert!(matches!(load(folder.path()), Err(LoadError::Unreadable { .. })));
    std::fs::write(&path, "config wan 'x").unwrap();
    assert_eq!(
        load(&path).unwrap_err().to_string(),
        format!("{}:1: the quote ' that opens here is never closed", path.display())
    );
    std::fs::write(&path, format!("{}{WANS}", server())).unwrap();
    assert_eq!(load(&path).unwrap().config, good(&format!("{}{WANS}", server())).config);
    assert!(load(Path::new("/dev/zero")).unwrap_err().to_string().contains("larger than 1 MiB"));
}

proptest! {
    #[test]
    fn no_file_panics(
        lines in prop::collection::vec(
            "(config (wan|server|wanbond|x)( [a-c])?|(option|list) (device|interface|role|quota|code|lan|bypass|enabled|billing_day|tcp) '?[a-z0-9:/. ]{0,8}'?)",
            0..12),
    ) {
        let _ = parse("f", lines.join("\n").as_bytes());
    }
}
