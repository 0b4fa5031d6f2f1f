//! Rules by domain: dnsmasq fills nftables' sets, or connections tell where they go.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use common::name_server::{NameServer, ask};
use common::{connect, listen};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::{ORIGIN_V4, SECOND_V4, VPS_V4};

fn isp(lab: &Lab, wan: &str) -> IpAddr {
    lab.wan(wan).net().public_v4().into()
}

/// As whom the origin sees a host that asks for a site of this name.
async fn site_seen_from(lab: &Lab, name: &str) -> IpAddr {
    let mut stream = connect(lab.lan(0), http()).await;
    let request = format!("GET /peer HTTP/1.1\r\nHost: {name}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.shutdown().await.unwrap();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let ip = answer.rsplit("\r\n").next().and_then(|ip| ip.parse().ok());
    ip.unwrap_or_else(|| panic!("no address in {answer:?}"))
}

fn addresses(lab: &Lab, rule: &str) -> Option<u64> {
    let status = lab.router(0).status().unwrap();
    status.bypass.rules.iter().find(|r| r.name == rule).and_then(|rule| rule.addresses)
}

/// A dnsmasq on the router, which nobody but this starts and ends.
struct Dnsmasq {
    dir: PathBuf,
    procd: Child,
}

impl Dnsmasq {
    fn start(lab: &Lab, upstream: &str) -> Self {
        let dir = lab.dir().join("dnsmasq");
        std::fs::create_dir_all(dir.join("more")).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "conf-dir={}\npid-file={}\nno-resolv\nno-hosts\nserver={upstream}\nuser=root\n\
             listen-address=192.168.77.1\nbind-interfaces\nmax-cache-ttl=1\n",
            at("more"),
            at("pid")
        );
        std::fs::write(dir.join("conf"), config).unwrap();
        // As on OpenWrt: not the daemon starts it, which has not the rights for that, but procd, which is
        // asked to.
        let procd = format!(
            "mkfifo {ask} {done} || exit 1; while read -r _ <{ask}; do\n\
             old=$(cat {pid} 2>/dev/null) && kill $old && n=0 && while [ -e {pid} ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done\n\
             dnsmasq --conf-file={conf} && echo started >> {count}\n\
             echo $? >{done}; done\n",
            ask = at("ask"),
            done = at("done"),
            pid = at("pid"),
            conf = at("conf"),
            count = at("count")
        );
        let mut command = Namespace::command("sh");
        command.args(["-c", &procd]);
        let procd = lab.router(0).ns().spawn(command).unwrap();
        let script = format!(
            "while ! [ -p {done} ]; do sleep 0.05; done; echo >{ask}; read -r code <{done}; exit $code\n",
            ask = at("ask"),
            done = at("done")
        );
        std::fs::write(dir.join("restart"), script).unwrap();
        let started = lab.router(0).ns().output("sh", &[&at("restart")]).unwrap();
        assert!(started.status.success(), "{started:?}");
        Self { dir, procd }
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.dir.join("count")).unwrap_or_default().lines().count()
    }

    fn file(&self) -> PathBuf {
        self.dir.join("more/wanbond.conf")
    }

    fn options(&self) -> [String; 1] {
        // Its folder is found by itself.
        [format!("option dnsmasq_restart 'sh {}'", self.dir.join("restart").display())]
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.procd.kill();
        let _ = self.procd.wait();
        let pid = std::fs::read_to_string(self.dir.join("pid")).ok();
        if let Some(pid) = pid.and_then(|text| text.trim().parse().ok())
            && is_dnsmasq(pid)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn is_dnsmasq(pid: i32) -> bool {
    let comm = Path::new("/proc").join(pid.to_string()).join("comm");
    std::fs::read_to_string(comm).is_ok_and(|name| name.trim() == "dnsmasq")
}

#[tokio::test(flavor = "multi_thread")]
async fn dnsmasq_tells_where_domains_are() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let names = NameServer::start(lab.inet(), SECOND_V4, ORIGIN_V4);
    let dnsmasq = Dnsmasq::start(&lab, &SECOND_V4.to_string());
    let mut config = lab.router(0).pair().unwrap();
    config.globals.extend(dnsmasq.options());
    config.extra =
        "\nconfig bypass 'video'\n\tlist domain 'video.test'\n\toption to 'wan:wan2'\n".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let by = |lab: &Lab| lab.router(0).status().unwrap().bypass.domains_by;
    wait_until("dnsmasq is used", || by(&lab).starts_with("dnsmasq")).await;
    assert_eq!(dnsmasq.starts(), 2);

    let router: SocketAddr = "192.168.77.1:53".parse().unwrap();
    let resolve = async |name: &str| {
        let start = Instant::now();
        while ask(lab.lan(0), router, name, Duration::from_secs(2)).await.is_none() {
            assert!(start.elapsed() < PATIENCE, "no answer for {name}");
        }
    };
    resolve("www.other.test").await;
    assert_eq!(site_seen_from(&lab, "x").await, IpAddr::from(VPS_V4));
    assert_eq!(addresses(&lab, "video"), Some(0));
    resolve("cdn.video.test").await;
    assert_eq!(addresses(&lab, "video"), Some(1));
    assert_eq!(site_seen_from(&lab, "x").await, isp(&lab, "wan2"));
    // The router asks over the bond.
    assert!(names.asked_by().contains(&IpAddr::from(VPS_V4)));

    // What has nothing to do with domains leaves dnsmasq alone, and the set as it is.
    config.extra.push_str("config bypass 'port'\n\toption port '81'\n\toption to 'direct'\n");
    lab.router(0).configure(&config).unwrap();
    lab.router(0).reload().unwrap();
    wait_until("the new rule", || lab.router(0).status().unwrap().bypass.rules.len() == 2).await;
    assert_eq!(site_seen_from(&lab, "x").await, isp(&lab, "wan2"));
    assert_eq!(dnsmasq.starts(), 2);

    assert!(dnsmasq.file().exists());
    let (_, left) = lab.router(0).stop().unwrap();
    assert_eq!(left, Vec::<String>::new());
    assert!(!dnsmasq.file().exists());
    assert_eq!(dnsmasq.starts(), 3, "it has forgotten");
}

/// A ClientHello for a name.
fn hello(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let mut extension = vec![0, 0, 0, length + 5, 0, length + 3, 0, 0, length];
    extension.extend(name.bytes());
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, length + 9]);
    body.extend(extension);
    let size = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, size + 4, 1, 0, 0, size];
    record.extend(body);
    record
}

/// Sends these bytes; who the server sees them come from.
async fn sent_from(lab: &Lab, host: &Namespace, port: u16, bytes: &[u8]) -> IpAddr {
    let to = SocketAddr::from((SECOND_V4, port));
    let server = listen(lab.inet(), to);
    let mut stream = connect(host, to).await;
    stream.write_all(bytes).await.unwrap();
    let (mut accepted, from) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    let mut got = vec![0; bytes.len()];
    timeout(PATIENCE, accepted.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, bytes);
    accepted.write_all(b"yes").await.unwrap();
    drop(accepted);
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "yes");
    from.ip()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_dnsmasq_connections_tell_where_they_go() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.extra = "\nconfig bypass 'secret'\n\tlist domain 'secret.test'\n\toption port '443'\n\toption to 'wan:wan2'\n\
         config bypass 'site'\n\tlist domain 'site.test'\n\toption to 'wan:wan1'\n"
        .into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let by = lab.router(0).status().unwrap().bypass.domains_by;
    assert!(by.contains("TLS"), "{by}");

    assert_eq!(
        sent_from(&lab, lab.lan(0), 443, &hello("www.other.test")).await,
        IpAddr::from(VPS_V4)
    );
    assert_eq!(
        sent_from(&lab, lab.lan(0), 443, &hello("www.secret.test")).await,
        isp(&lab, "wan2")
    );
    // Another port is not in the rule.
    assert_eq!(
        sent_from(&lab, lab.lan(0), 444, &hello("www.secret.test")).await,
        IpAddr::from(VPS_V4)
    );
    // Its address is known now: the kernel sends the next one there, whatever it says.
    wait_until("its address is noted", || addresses(&lab, "secret") == Some(1)).await;
    assert_eq!(sent_from(&lab, lab.lan(0), 443, b"nothing").await, isp(&lab, "wan2"));

    assert_eq!(site_seen_from(&lab, "www.site.test").await, isp(&lab, "wan1"));
    // Who says nothing is not waited for for long.
    let greeting = connect(lab.lan(0), (ORIGIN_V4, 22).into()).await;
    let mut banner = [0; 3];
    let mut greeting = greeting;
    timeout(PATIENCE, greeting.read_exact(&mut banner)).await.unwrap().unwrap();
    assert_eq!(&banner, b"SSH");
    let (_, left) = lab.router(0).stop().unwrap();
    assert_eq!(left, Vec::<String>::new());
}

/// The first datagram of a QUIC connection to example.com: RFC 9001, appendix A.2.
const QUIC: &[u8] = include_bytes!("../../../aggregator/router/src/bypass/sniff/rfc9001_a2.bin");

/// Sends this datagram, again after pauses as a QUIC client does, until it has arrived; who the server sees
/// it come from, and how often it was sent.
async fn datagram_seen_from(lab: &Lab, far: &UdpSocket, bytes: &[u8]) -> (IpAddr, u32) {
    let near = lab.lan(0).udp_socket(([0, 0, 0, 0], 0).into()).unwrap();
    let near = UdpSocket::from_std(near).unwrap();
    let start = Instant::now();
    for sent in 1.. {
        assert!(start.elapsed() < PATIENCE, "it never arrives");
        let _ = near.send_to(bytes, far.local_addr().unwrap()).await;
        let mut buffer = [0; 2000];
        let wait = Duration::from_millis(700);
        if let Ok(Ok((length, from))) = timeout(wait, far.recv_from(&mut buffer)).await {
            assert_eq!(&buffer[..length], bytes);
            return (from.ip(), sent);
        }
    }
    unreachable!("it is sent until it arrives")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_dnsmasq_a_quic_connection_goes_its_rules_way_from_the_first() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.extra = "\nconfig bypass 'example'\n\tlist domain 'example.com'\n\toption port '443'\n\toption to 'wan:wan2'\n".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let far = |ip: std::net::Ipv4Addr, port: u16| {
        UdpSocket::from_std(lab.inet().udp_socket((ip, port).into()).unwrap()).unwrap()
    };
    let site = far(SECOND_V4, 443);
    // What is not to be understood goes the usual way, and so does another port.
    let mut other = QUIC.to_vec();
    other[600] ^= 1;
    let vps = IpAddr::from(VPS_V4);
    assert_eq!(datagram_seen_from(&lab, &site, &other).await.0, vps);
    assert_eq!(datagram_seen_from(&lab, &far(SECOND_V4, 444), QUIC).await.0, vps);
    assert_eq!(addresses(&lab, "example"), Some(1), "its name was seen");
    // On another address nothing is known yet: the first of it is held back, and none goes to the VPS.
    let site = far(ORIGIN_V4, 443);
    let (seen, sent) = datagram_seen_from(&lab, &site, QUIC).await;
    println!("a QUIC connection to an unknown address arrives with the datagram number {sent}");
    assert_eq!(seen, isp(&lab, "wan2"));
    assert!(sent > 1, "the first can't have known");
    wait_until("its address is noted", || addresses(&lab, "example") == Some(2)).await;
    // The next one is the kernel's.
    let (seen, _) = datagram_seen_from(&lab, &site, &other).await;
    assert_eq!(seen, isp(&lab, "wan2"));
}
