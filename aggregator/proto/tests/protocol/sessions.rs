//! A session's age, and the keys it gives.

use std::collections::BTreeSet;
use std::time::Duration;

use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::session::{EXPIRE_AFTER, FlowId, Freshness, RENEW_AFTER};

use crate::support::{NOW, new_sessions, sessions};

#[test]
fn is_renewed_before_it_expires() {
    let (session, _) = sessions(Suite::Aes128Gcm);
    let instant = Duration::from_micros(1);
    assert_eq!(session.created(), NOW);
    assert!(!session.is_due_for_renewal(NOW + RENEW_AFTER - instant));
    assert!(session.is_due_for_renewal(NOW + RENEW_AFTER));
    assert!(!session.is_expired(NOW + EXPIRE_AFTER - instant));
    assert!(session.is_expired(NOW + EXPIRE_AFTER));
    assert!(RENEW_AFTER < EXPIRE_AFTER);
}

#[test]
fn flow_ids_are_never_repeated() {
    let (mut session, _) = new_sessions(Suite::Aes128Gcm);
    let ids: BTreeSet<_> = (0..10_000).map(|_| session.next_flow_id()).collect();
    assert_eq!(ids.len(), 10_000);
}

/// A flow's keys by what they make of the same record: tag of up and down.
#[test]
fn no_two_flows_share_a_key() {
    for suite in Suite::ALL {
        let (router, server) = sessions(suite);
        let mut seen = BTreeSet::new();
        let mut count = 0;
        let nonces = [None, Some([0; 16]), Some([1; 16]), Some([2; 16])];
        for flow in (0..100).chain([u64::MAX, 1 << 40]) {
            for nonce in nonces {
                let freshness = nonce.map(Freshness);
                for session in [router, server] {
                    let mut keys = session.flow_keys(FlowId(flow), freshness);
                    seen.insert(keys.seal.seal(b"", &mut [0; 16]));
                    count += 1;
                }
            }
        }
        assert_eq!(seen.len(), count);
    }
}

#[test]
fn flows_with_other_freshness_do_not_open() {
    let (router, server) = sessions(Suite::ChaCha20Poly1305);
    let fresh = Some(Freshness([5; 16]));
    for other in [None, Some(Freshness([6; 16])), Some(Freshness([0; 16]))] {
        let mut data = vec![0; 4];
        let tag = router.flow_keys(FlowId(1), fresh).seal.seal(b"", &mut data);
        data.extend_from_slice(&tag);
        assert!(server.flow_keys(FlowId(1), other).open.open(b"", &mut data).is_err());
    }
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let code = crate::support::code();
    let shown = format!("{code:?} {:?} {:?}", code.seed.static_secret(), code.seed.preshared_key());
    assert!(!shown.contains(&code.seed.static_secret().to_text()));
    assert!(!shown.contains(&code.seed.preshared_key().to_text()));
    assert!(!shown.contains("seed"));
}
