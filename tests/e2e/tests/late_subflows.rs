//! Lanes whose subflows were all lost, and joined anew, share the lines as others do: none crawls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use wanbond_e2e::{PATIENCE, THREE, all_up, http, lab, wait_until};
use wanbond_lab::topology::{VPS_V4, VPS_V6};
use wanbond_lab::traffic::{Download, download};

const WANS: [&str; 3] = ["wan1", "wan2", "wan3"];

/// What all downloads bring between two looks.
const SLICE: usize = 12_000_000;
/// The least that each brings of it, percent. Left to the kernel, one or the other brings less than 1
/// for as long as half a minute; otherwise none brings less than 15.
const LEAST: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn lanes_with_new_subflows_do_not_crawl() {
    let Some(lab) = lab(THREE) else { return };
    lab.server().init(&[&VPS_V4.to_string(), &VPS_V6.to_string()]).unwrap();
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.tcp = "mptcp".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let jobs: Vec<_> = (0..3)
        .map(|_| {
            let mut job = Download::timed(http(), Duration::from_secs(7200));
            job.patience = 2 * PATIENCE;
            job
        })
        .collect();
    let arrived: Vec<_> = jobs.iter().map(|job| Arc::clone(&job.progress)).collect();
    let all = || arrived.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect::<Vec<_>>();
    tokio::select! {
        ended = join_all(jobs.iter().map(|job| download(lab.lan(0), job))) => panic!("{ended:?}"),
        () = async {
            // Their buffers have grown by then.
            brought(&arrived, SLICE).await;
            each_wan(|name| lab.wan(name).cut().unwrap());
            sleep(Duration::from_secs(2)).await;
            // The server can't be told that these addresses are gone.
            for name in ["wan1", "wan3"] {
                lab.wan(name).readdress().unwrap();
            }
            sleep(Duration::from_millis(500)).await;
            each_wan(|name| lab.wan(name).restore().unwrap());
            // Until all have found their rates.
            brought(&arrived, SLICE).await;
            for slice in 0..4 {
                let before = all();
                brought(&arrived, SLICE).await;
                let each: Vec<_> = all().iter().zip(&before).map(|(now, then)| now - then).collect();
                println!("slice {slice}: {each:?}");
                let least = SLICE * LEAST / 100;
                assert!(each.iter().all(|bytes| *bytes >= least), "slice {slice}: {each:?}");
            }
        } => {}
    }
}

fn each_wan(act: impl Fn(&str)) {
    WANS.into_iter().for_each(act);
}

/// Waits until all together have brought so much more.
async fn brought(arrived: &[Arc<AtomicUsize>], bytes: usize) {
    let sum = || arrived.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum::<usize>();
    let start = sum();
    wait_until("the downloads go on", || sum() >= start + bytes).await;
}
