//! Makes a plan that breaks a rule smaller, for whoever has to understand why.

use std::time::Duration;

use wanbond_lab::units::Fraction;

use crate::plan::Plan;

/// Leaves out of the plan what it `fails` without, for at most so many tries.
#[must_use]
pub fn shrink(plan: &Plan, mut tries: u32, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    loop {
        let mut smaller = None;
        for candidate in candidates(&best) {
            if tries == 0 {
                return best;
            }
            tries -= 1;
            if fails(&candidate) {
                smaller = Some(candidate);
                break;
            }
        }
        match smaller {
            Some(plan) => best = plan,
            None => return best,
        }
    }
}

/// The plan with one thing less, each.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        if format!("{candidate:?}") != format!("{plan:?}") {
            all.push(candidate);
        }
    };
    add(&|plan| plan.hostility = None);
    add(&|plan| plan.blackout = None);
    if plan.links.len() > 1 {
        for gone in 0..plan.links.len() {
            add(&|plan| {
                plan.links.remove(gone);
                plan.troubles.retain(|trouble| trouble.link != gone);
                for trouble in &mut plan.troubles {
                    trouble.link -= usize::from(trouble.link > gone);
                }
            });
        }
    }
    if plan.flows.len() > 1 {
        for gone in 0..plan.flows.len() {
            add(&|plan| {
                plan.flows.remove(gone);
            });
        }
    }
    for gone in 0..plan.troubles.len() {
        add(&|plan| {
            plan.troubles.remove(gone);
        });
    }
    for index in 0..plan.links.len() {
        add(&|plan| plan.links[index].most = crate::link::ETHERNET);
        let simpler: [fn(&mut wanbond_lab::emulator::Shape); 6] = [
            |shape| shape.jitter = Duration::ZERO,
            |shape| shape.reordering_jitter = false,
            |shape| shape.loss = Fraction::ZERO,
            |shape| shape.burst = None,
            |shape| shape.reorder = Fraction::ZERO,
            |shape| shape.duplicate = Fraction::ZERO,
        ];
        for change in simpler {
            add(&|plan| {
                let link = &mut plan.links[index];
                link.spec = link.spec.with(change);
            });
        }
    }
    if let Some(hostility) = plan.hostility {
        for which in 0..6 {
            add(&|plan| {
                let mut less = hostility;
                let fields = [
                    &mut less.damage,
                    &mut less.repeat,
                    &mut less.invent,
                    &mut less.turn_back,
                    &mut less.divert,
                    &mut less.pretend,
                ];
                for (place, field) in fields.into_iter().enumerate() {
                    *field = if place == which { 0 } else { *field };
                }
                plan.hostility = Some(less);
            });
        }
    }
    all
}
