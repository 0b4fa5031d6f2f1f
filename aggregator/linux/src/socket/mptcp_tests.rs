use super::*;

fn info(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[0] = 1; // one more than the first
    bytes[2] = 4;
    bytes[3] = 8;
    bytes[12..16].copy_from_slice(&0xdead_beef_u32.to_ne_bytes());
    for (at, value) in [(48, 5_u64), (56, 600), (64, 700), (72, 800)] {
        if len >= at + 8 {
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
    }
    if len > 80 {
        bytes[80] = 2;
    }
    bytes
}

#[test]
fn linux_6_1_returns_48_bytes() {
    let info = MptcpInfo::parse(&info(48)).unwrap();
    assert_eq!((info.subflows, info.subflows_max, info.add_addr_accepted), (2, 8, 4));
    assert_eq!(info.token, 0xdead_beef);
    assert_eq!(info.bytes_sent, None);
    assert_eq!(info.retransmits, None);
}

#[test]
fn linux_6_12_returns_96_bytes() {
    let mut bytes = info(96);
    bytes[44..48].copy_from_slice(&3_u32.to_ne_bytes());
    bytes[0] = 7; // the total, not this, is the truth
    let info = MptcpInfo::parse(&bytes).unwrap();
    assert_eq!(info.subflows, 2);
    assert_eq!(info.retransmits, Some(3));
    assert_eq!(info.bytes_retrans, Some(5));
    assert_eq!(info.bytes_sent, Some(600));
    assert_eq!(info.bytes_received, Some(700));
    assert_eq!(info.bytes_acked, Some(800));
}

#[test]
fn a_fallen_back_or_short_answer_is_no_mptcp() {
    let mut bytes = info(96);
    bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    assert_eq!(MptcpInfo::parse(&bytes), None);
    assert_eq!(MptcpInfo::parse(&info(96)[..14]), None);
    assert_eq!(MptcpInfo::parse(&[]), None);
}

fn sockaddr(family: u16, port: u16, at: usize, ip: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; SOCKADDR_STORAGE];
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[at..at + ip.len()].copy_from_slice(ip);
    bytes
}

#[test]
fn socket_addresses() {
    let v4 = sockaddr(2, 80, 4, &[192, 0, 2, 1]);
    assert_eq!(parse_sockaddr(&v4), Some("192.0.2.1:80".parse().unwrap()));
    let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let bytes = sockaddr(10, 443, 8, &v6.octets());
    assert_eq!(parse_sockaddr(&bytes), Some("[2001:db8::1]:443".parse().unwrap()));
    let mapped: Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
    let bytes = sockaddr(10, 443, 8, &mapped.octets());
    assert_eq!(parse_sockaddr(&bytes), Some("192.0.2.1:443".parse().unwrap()));
    assert_eq!(parse_sockaddr(&sockaddr(1, 0, 4, &[])), None);
    assert_eq!(parse_sockaddr(&v4[..6]), None);
}

fn array(header: u32, count: u32, stride: u32, payload: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [header, count, stride, stride].iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.resize(bytes.len() + payload, 7);
    bytes
}

#[test]
fn subflow_arrays_survive_anything() {
    assert_eq!(parse_subflow_array(array(16, 3, 10, 30)).unwrap().count(), 3);
    // More said than given, a header larger than the answer, absurd numbers.
    assert_eq!(parse_subflow_array(array(16, 3, 10, 25)).unwrap().count(), 2);
    assert_eq!(parse_subflow_array(array(64, 3, 10, 30)).unwrap().count(), 0);
    assert!(parse_subflow_array(array(16, 3, 0, 30)).is_none());
    for (header, count, stride) in [(u32::MAX, 1, 1), (16, u32::MAX, u32::MAX), (16, 0, 1)] {
        if let Some(array) = parse_subflow_array(array(header, count, stride, 30)) {
            assert!(array.count() <= 30);
        }
    }
    assert!(parse_subflow_array(vec![0; 5]).is_none());
}

#[test]
fn plain_tcp_is_no_mptcp() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(mptcp_info(&stream).unwrap(), None);
    assert_eq!(subflows(&stream).unwrap(), Vec::new());
}
