//! What stands around the tunnel's device, in a real kernel: a LAN's packets go through router and
//! server to the Internet and back, forwards the other way, and nothing goes where it must not.
//!
//! ```text
//! lan ──br-lan── router (here) ──wan── inet ──eth0── vps
//!                   wanbond0 ══════ the tunnel ═════ wanbond0
//! ```
//!
//! In place of the tunnel, a task copies packets between the two devices. Answers find no way
//! around it: `inet` has no route to the LAN.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use common::{Neighbour, dump, in_namespace, link, sh};
use socket2::{Domain, Socket, Type};
use tappers::{Interface, Tun};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use wanbond_linux::firewall::{LanTunnel, Outside, PortForward, Transport, TunnelEnd, VpsTunnel};
use wanbond_linux::owned::{Journal, Owner, cleanup};
use wanbond_linux::tunnel::{DEVICE, LanKernel, LanPlan, TunnelProblem, VpsKernel, VpsPlan};

const INET_V4: &str = "203.0.113.7";
const INET_V6: &str = "2001:db8:7::7";
const VPS_V4: &str = "198.51.100.2";
const VPS_V6: &str = "2001:db8:5::2";
const PRIVATE: &str = "10.9.9.9";
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    lan: Neighbour,
    inet: Neighbour,
    vps: Neighbour,
}

impl World {
    fn new() -> Self {
        let (lan, inet, vps) = (Neighbour::new(), Neighbour::new(), Neighbour::new());
        link(
            "br-lan",
            &["192.168.1.1/24", "fd00:1::1/64"],
            &lan,
            &["192.168.1.10/24", "fd00:1::10/64"],
        );
        link("wan", &["192.0.2.10/24"], &inet, &["192.0.2.1/24"]);
        vps.sh(&format!("ip link add eth0 type veth peer name vps netns {}", inet.id));
        vps.sh(&format!(
            "ip link set eth0 up; ip addr add {VPS_V4}/24 dev eth0
             ip addr add {VPS_V6}/64 dev eth0 nodad"
        ));
        inet.sh(&format!(
            "ip link set vps up; ip addr add 198.51.100.1/24 dev vps
             ip addr add 2001:db8:5::1/64 dev vps nodad
             ip addr add {INET_V4}/32 dev lo; ip addr add {INET_V6}/128 dev lo nodad
             ip addr add {PRIVATE}/32 dev lo"
        ));
        lan.sh("ip route add default via 192.168.1.1; ip -6 route add default via fd00:1::1");
        sh("ip route add default via 192.0.2.1
            sysctl -qw net.ipv6.conf.all.forwarding=1");
        vps.sh("ip route add default via 198.51.100.1
                ip -6 route add default via 2001:db8:5::1");
        Self { lan, inet, vps }
    }

    fn ping(from: &Neighbour, to: &str) -> bool {
        from.run(|| pings(to))
    }
}

fn pings(what: &str) -> bool {
    let arguments = format!("ping -n -c 1 -W 1 {what} >/dev/null 2>&1");
    std::process::Command::new("sh").args(["-c", &arguments]).status().unwrap().success()
}

/// The tunnel, as far as packets can tell.
struct Pump {
    tasks: [JoinHandle<()>; 2],
}

impl Pump {
    fn start(vps: &Neighbour) -> Self {
        let open = || {
            let mut tun = Tun::new_named(Interface::new(DEVICE).unwrap()).unwrap();
            tun.set_nonblocking(true).unwrap();
            tun
        };
        let (ours, theirs) = (watch(open()), watch(vps.run(open)));
        let up = tokio::spawn(copy(Arc::clone(&ours), Arc::clone(&theirs)));
        let down = tokio::spawn(copy(theirs, ours));
        Self { tasks: [up, down] }
    }

    async fn stop(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

fn watch(tun: Tun) -> Arc<AsyncFd<Tun>> {
    // Its successor is unsafe, for types whose descriptor may change or close meanwhile.
    #[expect(deprecated)]
    Arc::new(AsyncFd::new(tun).unwrap())
}

async fn copy(from: Arc<AsyncFd<Tun>>, to: Arc<AsyncFd<Tun>>) {
    let mut packet = vec![0; 65536];
    loop {
        let mut ready = from.readable().await.unwrap();
        if let Ok(Ok(length)) = ready.try_io(|tun| tun.get_ref().recv(&mut packet)) {
            // A device that is down yet, or full, loses it as a network would.
            let _ = to.get_ref().send(&packet[..length]);
        }
    }
}

fn forward(transport: Transport, ports: (u16, u16), to: &str, to_port: Option<u16>) -> PortForward {
    PortForward { transport, first: ports.0, last: ports.1, to: to.parse().unwrap(), to_port }
}

fn lan_plan() -> LanPlan {
    LanPlan {
        firewall: LanTunnel {
            devices: vec!["br-lan".into()],
            tcp: false,
            silent: false,
            ipv4: true,
            ipv6: true,
            bypass_v4: Vec::new(),
            bypass_v6: Vec::new(),
            names: None,
            block: false,
            end: Some(TunnelEnd {
                device: DEVICE.into(),
                mtu: 1400,
                v4: "10.239.0.2".parse().unwrap(),
                v6: "fd77::2".parse().unwrap(),
                server_v4: "10.239.0.1".parse().unwrap(),
                server_v6: "fd77::1".parse().unwrap(),
                prefix: None,
                forwards: vec![
                    forward(Transport::Tcp, (8080, 8080), "192.168.1.10", Some(80)),
                    forward(Transport::Udp, (5000, 5010), "192.168.1.10", None),
                    forward(Transport::Tcp, (8080, 8080), "fd00:1::10", Some(80)),
                    forward(Transport::Tcp, (2222, 2222), "192.168.1.1", None),
                ],
            }),
        },
        server: ("10.239.0.1".parse().unwrap(), "fd77::1".parse().unwrap()),
        block: false,
    }
}

fn vps_plan() -> VpsPlan {
    VpsPlan {
        firewall: VpsTunnel {
            device: DEVICE.into(),
            mtu: 1400,
            inner_v4: "10.239.0.0/16".parse().unwrap(),
            inner_v6: "fd77::/64".parse().unwrap(),
            server: ("10.239.0.1".parse().unwrap(), "fd77::1".parse().unwrap()),
            routed: None,
            outside: Outside {
                own: vec![VPS_V4.parse().unwrap(), VPS_V6.parse().unwrap()],
                ..Outside::default()
            },
            forwards: vec![
                forward(Transport::Tcp, (8080, 8080), "10.239.0.2", None),
                forward(Transport::Udp, (5000, 5010), "10.239.0.2", None),
                forward(Transport::Tcp, (8080, 8080), "fd77::2", None),
                forward(Transport::Tcp, (2222, 2222), "10.239.0.2", None),
            ],
        },
        ipv6: true,
    }
}

/// Both ends in place, and the tunnel between them.
struct Running {
    world: World,
    pump: Option<Pump>,
    lan: LanKernel,
    vps: VpsKernel,
    lan_journal: Journal,
    vps_journal: Journal,
    before: [String; 2],
    _dir: tempfile::TempDir,
}

impl Running {
    async fn start(lan_plan: &LanPlan, vps_plan: &VpsPlan) -> Self {
        let world = World::new();
        let before = [state(), world.vps.run(state)];
        let dir = tempfile::tempdir().unwrap();
        let lan_journal = Journal::open_in(dir.path(), Owner::Router).unwrap();
        let vps_journal =
            world.vps.run(|| Journal::open_in(&dir.path().join("vps"), Owner::Server).unwrap());
        let pump = Pump::start(&world.vps);
        let mut lan = LanKernel::new(lan_journal.clone()).await.unwrap();
        let mut vps = world.vps.block_on(VpsKernel::new(vps_journal.clone())).unwrap();
        none(&lan.apply(lan_plan).await);
        none(&world.vps.block_on(vps.apply(vps_plan)));
        let pump = Some(pump);
        Self { world, pump, lan, vps, lan_journal, vps_journal, before, _dir: dir }
    }
}

fn none(problems: &[TunnelProblem]) {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{told:?}");
}

/// Everything that could have changed, the settings of the device itself aside.
fn state() -> String {
    dump()
        + &sh("sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding
               sysctl -a 2>/dev/null | grep -E 'conf\\.(all|eth0|br-lan|wan)\\.(forwarding|accept_ra|accept_redirects|rp_filter)'")
}

/// Answers one datagram with the address it came from.
fn udp_echo(at: &Neighbour, bind: &str) -> std::thread::JoinHandle<SocketAddr> {
    let socket = at.run(|| UdpSocket::bind(bind).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2000];
        let (length, from) = socket.recv_from(&mut bytes).expect("a datagram");
        socket.send_to(&bytes[..length], from).unwrap();
        from
    })
}

fn udp_ask(from: &Neighbour, bind: &str, to: &str, length: usize) {
    let socket = from.run(|| UdpSocket::bind(bind).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = vec![7; length];
    from.run(|| socket.send_to(&asked, to).unwrap());
    let mut bytes = [0; 2000];
    let (answered, whom) = socket.recv_from(&mut bytes).expect("an answer");
    assert_eq!((&bytes[..answered], whom.to_string().as_str()), (&asked[..], to));
}

/// Takes one connection, reads to its end, answers as much and returns whom it came from.
fn tcp_echo(listener: TcpListener) -> std::thread::JoinHandle<SocketAddr> {
    std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        from
    })
}

fn tcp_ask(from: &Neighbour, bind: &str, to: &str) {
    let (bind, to): (SocketAddr, SocketAddr) = (bind.parse().unwrap(), to.parse().unwrap());
    let mut stream: TcpStream = from.run(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&bind.into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        socket.into()
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = vec![9; 300_000];
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&vec![9; 300_000]).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    writing.join().unwrap();
    assert!(bytes == asked);
}

#[test]
fn the_lan_reaches_the_internet_and_everything_goes_again() {
    in_namespace(|| async {
        let mut run = Running::start(&lan_plan(), &vps_plan()).await;
        let World { lan, inet, vps } = &run.world;
        assert!(World::ping(lan, INET_V4) && World::ping(lan, INET_V6));
        let echo = udp_echo(inet, "203.0.113.7:53");
        udp_ask(lan, "192.168.1.10:0", "203.0.113.7:53", 1300);
        assert_eq!(echo.join().unwrap().ip().to_string(), VPS_V4);
        let echo = udp_echo(inet, "[2001:db8:7::7]:53");
        udp_ask(lan, "[fd00:1::10]:0", "[2001:db8:7::7]:53", 1300);
        assert_eq!(echo.join().unwrap().ip().to_string(), VPS_V6);
        // Each end answers the other, and the LAN reaches the server's.
        for to in ["10.239.0.1", "fd77::1", "-I 10.239.0.2 203.0.113.7"] {
            assert!(pings(to), "{to}");
        }
        assert!(World::ping(vps, "10.239.0.2") && World::ping(vps, "fd77::2"));
        assert!(World::ping(lan, "10.239.0.1"));

        // Twice is the same as once.
        let settled = [state(), vps.run(state)];
        none(&run.lan.apply(&lan_plan()).await);
        none(&vps.block_on(run.vps.apply(&vps_plan())));
        assert_eq!([state(), vps.run(state)], settled);

        // Another program's firewall starts, and begins with a clean slate.
        sh("nft flush ruleset");
        vps.sh("nft flush ruleset");
        none(&run.lan.apply(&lan_plan()).await);
        none(&vps.block_on(run.vps.apply(&vps_plan())));
        assert_eq!([state(), vps.run(state)], settled);

        none(&run.lan.remove().await);
        none(&vps.block_on(run.vps.remove()));
        assert!(run.lan_journal.is_clean() && run.vps_journal.is_clean());
        run.pump.take().unwrap().stop().await;
        assert_eq!([state(), vps.run(state)], run.before);
    });
}

#[test]
fn forwards_lead_in_and_show_the_client() {
    in_namespace(|| async {
        let run = Running::start(&lan_plan(), &vps_plan()).await;
        let World { lan, inet, .. } = &run.world;
        // So that a way past the VPS's rules would be found.
        inet.sh("ip route add 10.239.0.0/16 via 198.51.100.2
                 ip route add 192.168.1.0/24 via 198.51.100.2");
        for (bind, to, client) in [
            ("192.168.1.10:80", "198.51.100.2:8080", "203.0.113.7:0"),
            ("[fd00:1::10]:80", "[2001:db8:5::2]:8080", "[2001:db8:7::7]:0"),
        ] {
            let echo = tcp_echo(lan.run(|| TcpListener::bind(bind).unwrap()));
            tcp_ask(inet, client, to);
            assert_eq!(echo.join().unwrap().ip(), client.parse::<SocketAddr>().unwrap().ip());
        }
        let echo = udp_echo(lan, "192.168.1.10:5007");
        udp_ask(inet, "203.0.113.7:0", "198.51.100.2:5007", 1000);
        assert_eq!(echo.join().unwrap().ip().to_string(), INET_V4);
        // To the router itself.
        let echo = tcp_echo(TcpListener::bind("192.168.1.1:2222").unwrap());
        tcp_ask(inet, "203.0.113.7:0", "198.51.100.2:2222");
        assert_eq!(echo.join().unwrap().ip().to_string(), INET_V4);
        // Other ports lead nowhere, neither at the VPS nor past it.
        let refused = inet
            .run(|| TcpStream::connect_timeout(&"198.51.100.2:8081".parse().unwrap(), PATIENCE));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(!World::ping(inet, "10.239.0.2") && !World::ping(inet, "192.168.1.10"));
    });
}

#[test]
fn routers_reach_the_internet_only() {
    in_namespace(|| async {
        let run = Running::start(&lan_plan(), &vps_plan()).await;
        let World { lan, vps, .. } = &run.world;
        assert!(World::ping(lan, INET_V4));
        for to in [
            // Around the VPS, its own addresses, another router.
            "-I 10.239.0.2 10.9.9.9",
            "-I 10.239.0.2 198.51.100.2",
            "-I fd77::2 2001:db8:5::2",
            "-I 10.239.0.2 10.239.0.3",
            "-I fd77::2 fd77::3",
            "-I fd77::2 64:ff9b::a09:909",
        ] {
            assert!(!pings(to), "{to}");
        }
        // By the server's own rules, not for want of a way: what it allows is reached.
        let mut allowing = vps_plan();
        allowing.firewall.outside.allow = vec!["10.9.9.0/24".parse().unwrap()];
        let mut kernel = run.vps.clone();
        none(&vps.block_on(kernel.apply(&allowing)));
        vps.sh("ip route add 10.9.9.9 via 198.51.100.1");
        assert!(pings("-I 10.239.0.2 10.9.9.9"));
        allowing.firewall.outside.deny = vec![format!("{INET_V4}/32").parse().unwrap()];
        allowing.firewall.outside.deny_ports = vec![25];
        none(&vps.block_on(kernel.apply(&allowing)));
        assert!(!World::ping(lan, INET_V4));

        // The server's services are not for routers, nor are the router's for the server.
        let _service = vps.run(|| TcpListener::bind("10.239.0.1:22").unwrap());
        let to = "10.239.0.1:22".parse().unwrap();
        assert!(TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_err());
        let _service = TcpListener::bind("10.239.0.2:22").unwrap();
        let to = "10.239.0.2:22".parse().unwrap();
        assert!(vps.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).is_err());

        // Foreign sources don't get out of the tunnel.
        sh("ip addr add 192.0.2.77/32 dev lo; ip rule add from 192.0.2.77 lookup 7900 priority 500
            nft add table inet off; nft delete table inet wanbond-tunnel");
        assert!(!pings("-I 192.0.2.77 203.0.113.7"));
    });
}

#[test]
fn tcp_goes_through_as_packets_with_segments_that_fit() {
    in_namespace(|| async {
        let mut plan = lan_plan();
        plan.firewall.tcp = true;
        let run = Running::start(&plan, &vps_plan()).await;
        let World { lan, inet, .. } = &run.world;
        for (from, to, by) in [
            ("192.168.1.10:0", "203.0.113.7:80", VPS_V4),
            ("[fd00:1::10]:0", "[2001:db8:7::7]:80", VPS_V6),
        ] {
            let echo = tcp_echo(inet.run(|| TcpListener::bind(to).unwrap()));
            tcp_ask(lan, from, to);
            assert_eq!(echo.join().unwrap().ip().to_string(), by);
        }
        // 1400 bytes less the headers, and 12 of timestamps.
        let listener = inet.run(|| TcpListener::bind("203.0.113.7:81").unwrap());
        let to: SocketAddr = "203.0.113.7:81".parse().unwrap();
        let _client = lan.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        let _server = listener.accept().unwrap();
        for place in [lan, inet] {
            let shown = place.sh("ss -Htin state established '( sport = :81 or dport = :81 )'");
            assert!(shown.contains(" mss:1348 "), "{shown}");
        }
    });
}

#[test]
fn without_a_tunnel_packets_are_refused_or_go_their_usual_way() {
    in_namespace(|| async {
        sh("sysctl -qw net.ipv4.ip_forward=1
            nft add table inet fw
            nft 'add chain inet fw f { type filter hook forward priority 0; }'
            nft add rule inet fw f ct state established accept
            nft 'add chain inet fw n { type nat hook postrouting priority srcnat; }'
            nft add rule inet fw n oifname wan udp sport 4000-4999 masquerade");
        let mut run = Running::start(&lan_plan(), &vps_plan()).await;
        let World { lan, inet, .. } = &run.world;
        // The usual way.
        inet.sh("ip route add 192.168.1.0/24 via 192.0.2.10");
        none(&run.lan.remove().await);
        let here = inet.run(|| UdpSocket::bind("203.0.113.7:53").unwrap());
        here.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = |port: u16| {
            let socket = lan.run(|| UdpSocket::bind(("192.168.1.10", port)).unwrap());
            socket.connect("203.0.113.7:53").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let turn = |client: &UdpSocket| {
            client.send(b"?").unwrap();
            let from = here.recv_from(&mut [0; 9]).expect("a question").1;
            here.send_to(b"!", from).unwrap();
            assert_eq!(client.recv(&mut [0; 9]).expect("an answer"), 1);
            from.ip().to_string()
        };
        let (plain, translated) = (client(3000), client(4000));
        for _ in 0..2 {
            assert_eq!(turn(&plain), "192.168.1.10");
            assert_eq!(turn(&translated), "192.0.2.10");
        }
        // What began there and isn't translated ends there; the other moves, at the cost of a
        // packet; what begins now goes by the tunnel.
        none(&run.lan.apply(&lan_plan()).await);
        assert_eq!(turn(&plain), "192.168.1.10");
        translated.send(b"lost").unwrap();
        assert_eq!(turn(&translated), VPS_V4);
        let late = client(4001);
        assert_eq!((turn(&late), turn(&late)), (VPS_V4.into(), VPS_V4.into()));
        // Back to the WAN when the tunnel has gone.
        none(&run.lan.remove().await);
        late.send(b"lost").unwrap();
        assert_eq!(turn(&late), "192.0.2.10");
        none(&run.lan.apply(&lan_plan()).await);
        assert!(World::ping(lan, INET_V4));
        run.pump.take().unwrap().stop().await;
        common::until("the device to go", || !sh("ip -o link").contains(DEVICE)).await;
        assert!(World::ping(lan, INET_V4), "directly, as nothing else is said");

        let mut blocked = LanPlan { block: true, ..lan_plan() };
        blocked.firewall.end = None;
        none(&run.lan.apply(&blocked).await);
        let said = lan.sh(&format!("ping -n -c 1 -W 1 {INET_V4} || true"));
        assert!(said.contains("Unreachable"), "{said}");
        assert!(World::ping(lan, "192.168.1.1"));

        // A crash: nothing but the journal remains of us.
        let report = cleanup(&run.lan_journal).await;
        assert!(report.errors.is_empty() && report.table, "{report}");
        let report = run.world.vps.block_on(cleanup(&run.vps_journal));
        assert!(report.errors.is_empty() && report.table, "{report}");
        assert_eq!([state(), run.world.vps.run(state)], run.before);
        assert!(World::ping(lan, INET_V4));
    });
}

#[test]
fn a_routed_prefix_needs_no_translation_and_is_closed_from_outside() {
    in_namespace(|| async {
        let mut lan_plan = lan_plan();
        let end = lan_plan.firewall.end.as_mut().unwrap();
        end.v6 = "2001:db8:1:1::1".parse().unwrap();
        end.prefix = Some("2001:db8:1:1::/64".parse().unwrap());
        let mut vps_plan = vps_plan();
        vps_plan.firewall.routed = Some("2001:db8:1::/56".parse().unwrap());
        let run = Running::start(&lan_plan, &vps_plan).await;
        let World { lan, inet, .. } = &run.world;
        let host = "2001:db8:1:1::10";
        sh("ip addr add 2001:db8:1:1::ff/64 dev br-lan nodad");
        lan.sh(&format!("ip addr add {host}/64 dev br-lan nodad"));
        inet.sh(&format!("ip -6 route add 2001:db8:1::/56 via {VPS_V6}"));
        for from in [host, "fd00:1::10"] {
            let echo = udp_echo(inet, "[2001:db8:7::7]:53");
            udp_ask(lan, &format!("[{from}]:0"), "[2001:db8:7::7]:53", 100);
            let seen = echo.join().unwrap().ip().to_string();
            assert_eq!(seen, if from == host { host } else { "2001:db8:1:1::1" });
        }
        // A host of the LAN is near, whatever its address.
        assert!(pings(host) && World::ping(lan, "2001:db8:1:1::ff"));
        assert!(!World::ping(inet, host));
        assert!(World::ping(inet, "2001:db8:1:1::1"), "the router itself answers pings");
    });
}
