use super::*;

fn limits() -> Limits {
    Limits {
        flows: 3,
        buffers: 100,
        unproven: 4,
        unproven_per_address: 2,
        router: EffectiveRouterLimits {
            flows: 2,
            lanes: 2,
            opens_per_second: 1,
            open_burst: 10,
            buffers: 60,
            monthly: None,
        },
    }
}

fn key(id: u8) -> PublicKey {
    PublicKey::from_bytes([id; 32])
}

#[test]
fn flows_are_bounded_per_router_and_in_all() {
    let budget = Budget::new(limits());
    let a = budget.router(key(1), RouterLimits::default());
    let b = budget.router(key(2), RouterLimits::default());
    let first = a.flow(Time::ZERO).unwrap();
    let _second = a.flow(Time::ZERO).unwrap();
    assert_eq!(a.flow(Time::ZERO).unwrap_err(), Refusal::RouterFlows);
    let _third = b.flow(Time::ZERO).unwrap();
    assert_eq!(b.flow(Time::ZERO).unwrap_err(), Refusal::Flows);
    assert_eq!((budget.flows(), a.flows(), b.flows()), (3, 2, 1));
    drop(first);
    let _fourth = b.flow(Time::ZERO).unwrap();
    assert_eq!((budget.flows(), a.flows(), b.flows()), (3, 1, 2));
}

#[test]
fn too_fast_opens_take_no_room() {
    let budget = Budget::new(limits());
    let own = RouterLimits { open_burst: Some(1), ..RouterLimits::default() };
    let router = budget.router(key(1), own);
    drop(router.flow(Time::ZERO).unwrap());
    let wait = Refusal::OpenRate(Duration::from_secs(1));
    assert_eq!(router.flow(Time::ZERO).unwrap_err(), wait);
    assert_eq!((budget.flows(), router.flows()), (0, 0));
    assert!(router.flow(Time::from_millis(1000)).is_ok());
}

#[test]
fn buffers_grow_shrink_and_come_back() {
    let budget = Budget::new(limits());
    let a = budget.router(key(1), RouterLimits::default());
    let b = budget.router(key(2), RouterLimits::default());
    let mut permit = a.buffer(50).unwrap();
    assert_eq!(permit.resize(61), Err(Refusal::RouterBuffers));
    assert_eq!(permit.bytes(), 50);
    let other = b.buffer(50).unwrap();
    assert_eq!(permit.resize(60), Err(Refusal::Buffers));
    assert_eq!((a.buffers(), budget.buffers()), (50, 100));
    permit.resize(10).unwrap();
    assert_eq!((a.buffers(), budget.buffers()), (10, 60));
    drop(other);
    drop(permit);
    assert_eq!((a.buffers(), b.buffers(), budget.buffers()), (0, 0, 0));
}

#[test]
fn strangers_are_counted_by_address_and_v6_network() {
    let budget = Budget::new(limits());
    let from = |text: &str| budget.unproven(text.parse().unwrap());
    let _a = from("2001:db8::1").unwrap();
    let b = from("2001:db8::2").unwrap();
    assert_eq!(from("2001:db8::3").unwrap_err(), Refusal::UnprovenPerAddress);
    let _c = from("192.0.2.1").unwrap();
    let _d = from("::ffff:192.0.2.1").unwrap();
    assert_eq!(from("192.0.2.2").unwrap_err(), Refusal::Unproven);
    drop(b);
    let _e = from("192.0.2.2").unwrap();
    assert_eq!(budget.unproven_connections(), 4);
}

#[test]
fn sessions_of_one_router_share_and_changes_count_at_once() {
    let budget = Budget::new(limits());
    let a = budget.router(key(1), RouterLimits::default());
    let _lanes = (a.lane().unwrap(), a.lane().unwrap());
    let again = budget.router(key(1), RouterLimits { lanes: Some(3), ..RouterLimits::default() });
    let _third = again.lane().unwrap();
    assert_eq!(a.lane().unwrap_err(), Refusal::RouterLanes);
    budget.set_limits(Limits {
        router: EffectiveRouterLimits { flows: 0, ..limits().router },
        ..limits()
    });
    assert_eq!(a.flow(Time::ZERO).unwrap_err(), Refusal::RouterFlows);
}

#[test]
fn routers_that_are_gone_are_forgotten() {
    let budget = Budget::new(limits());
    for id in 0..=255 {
        let _ = budget.router(key(id), RouterLimits::default());
    }
    assert!(lock(&budget.routers).len() < 64);
}
