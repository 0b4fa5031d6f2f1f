use std::collections::HashMap;

use tokio::net::TcpListener;

use super::resolve::Answer;
use super::*;

/// Answers from a table, after a time.
#[derive(Default)]
struct Table(HashMap<(&'static str, bool), (u64, Found)>);

type Found = Result<Vec<IpAddr>, ResolveError>;

impl Table {
    fn with(mut self, name: &'static str, v6: bool, after: u64, ips: &[&str]) -> Self {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.insert((name, v6), (after, Ok(ips)));
        self
    }
}

impl Resolve for Table {
    fn resolve(&self, name: &str, v6: bool) -> Answer {
        let found = self.0.iter().find(|((n, six), _)| *n == name && *six == v6);
        let (after, answer) =
            found.map_or((0, Err(ResolveError::NotFound)), |(_, answer)| answer.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            answer
        })
    }
}

fn loopback_allowed() -> EgressConfig {
    EgressConfig {
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        connect_timeout: Duration::from_secs(2),
        ..EgressConfig::default()
    }
}

fn egress(config: EgressConfig, table: Table) -> Egress {
    Egress::with_resolver(config, Arc::new(|_| false), Arc::new(table))
}

fn name(port: u16) -> Target {
    Target::Name("target.example".into(), port)
}

#[tokio::test]
async fn connects_with_the_options_wanted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = "127.0.0.9".parse().unwrap();
    let config = EgressConfig { source_v4: Some(source), ..loopback_allowed() };
    let egress = egress(config, Table::default());
    let target = Target::Address(listener.local_addr().unwrap());
    let stream = egress.connect(&target).await.unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(&stream).keepalive().unwrap());
    assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::V4(source));
}

#[tokio::test]
async fn refused_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let egress = egress(
        loopback_allowed(),
        Table::default().with("target.example", false, 0, &["127.0.0.1"]),
    );
    assert_eq!(egress.connect(&Target::Address(address)).await.unwrap_err(), EgressError::Refused);
    assert_eq!(egress.connect(&name(address.port())).await.unwrap_err(), EgressError::Refused);
}

#[tokio::test]
async fn a_full_backlog_times_out() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // A backlog of 0 holds one; the kernel ignores further SYNs.
    let _first = std::net::TcpStream::connect(address).unwrap();
    let config = EgressConfig { connect_timeout: Duration::from_millis(300), ..loopback_allowed() };
    let egress = egress(config, Table::default());
    let error = egress.connect(&Target::Address(address)).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut);
}

#[tokio::test]
async fn private_own_and_denied_targets_are_refused_by_address_and_by_name() {
    let table = || {
        Table::default().with("target.example", false, 0, &["10.0.0.1", "127.0.0.1"]).with(
            "target.example",
            true,
            0,
            &["::ffff:127.0.0.1", "fd00::1"],
        )
    };
    let egress = egress(EgressConfig::default(), table());
    let special = EgressError::Denied(Denial::Special);
    assert_eq!(egress.connect(&name(80)).await.unwrap_err(), special);
    for text in ["127.0.0.1:80", "[::1]:80", "[::ffff:169.254.169.254]:80"] {
        let target = Target::Address(text.parse().unwrap());
        assert_eq!(egress.connect(&target).await.unwrap_err(), special, "{text}");
    }
    // An address in the place of a name is an address.
    let target = Target::Name("127.0.0.1".into(), 80);
    assert_eq!(egress.connect(&target).await.unwrap_err(), special);

    egress.set_endpoints(&["198.51.100.1", "missing.example"]).await;
    let target = Target::Address("198.51.100.1:22".parse().unwrap());
    assert_eq!(egress.connect(&target).await.unwrap_err(), EgressError::Denied(Denial::Own));
}

#[tokio::test]
async fn a_dead_address_costs_a_quarter_of_a_second() {
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&"127.0.0.3:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    dead.listen(0).unwrap();
    let address = dead.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    let live = TcpListener::bind(("127.0.0.1", address.port())).await.unwrap();
    let table = Table::default().with("target.example", false, 0, &["127.0.0.3", "127.0.0.1"]);
    let start = Instant::now();
    let stream = egress(loopback_allowed(), table).connect(&name(address.port())).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
    assert!(start.elapsed() >= eyeballs::ATTEMPT_DELAY);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_refusing_family_costs_nothing_and_a_slow_answer_is_not_waited_for() {
    let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = live.local_addr().unwrap().port();
    let table = Table::default().with("target.example", true, 0, &["::1"]).with(
        "target.example",
        false,
        0,
        &["127.0.0.1"],
    );
    let start = Instant::now();
    egress(loopback_allowed(), table).connect(&name(port)).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(200));
    let table = Table::default().with("target.example", true, 60_000, &["::1"]).with(
        "target.example",
        false,
        0,
        &["127.0.0.1"],
    );
    let start = Instant::now();
    egress(loopback_allowed(), table).connect(&name(port)).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn names_without_addresses() {
    let egress = egress(loopback_allowed(), Table::default());
    assert_eq!(egress.connect(&name(80)).await.unwrap_err(), EgressError::NameNotFound);
    let mut table = Table::default();
    table.0.insert(("target.example", true), (0, Err(ResolveError::Failed)));
    let egress = self::egress(loopback_allowed(), table);
    assert_eq!(egress.connect(&name(80)).await.unwrap_err(), EgressError::NameFailure);
}

#[test]
fn system_errors_are_told_apart() {
    let somewhere = "127.0.0.1:1".parse().unwrap();
    let of = |code: Errno| classify(&io::Error::from_raw_os_error(code as i32), somewhere);
    assert_eq!(of(Errno::ENETUNREACH), EgressError::Unreachable);
    assert_eq!(of(Errno::EHOSTUNREACH), EgressError::Unreachable);
    assert_eq!(of(Errno::ETIMEDOUT), EgressError::TimedOut);
    assert_eq!(of(Errno::EMFILE), EgressError::TooMany);
    assert_eq!(of(Errno::EPERM), EgressError::Denied(Denial::Firewall));
}
