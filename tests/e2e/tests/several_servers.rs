//! Several servers: another one takes over when the one in use is gone.

mod common;

use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use wanbond_control::ServerState;
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::ns::Namespace;
use wanbond_lab::traffic::{Download, download};

/// A second server, where the first line ends in the Internet. It ends with this.
struct Second {
    child: Child,
    code: String,
}

impl Second {
    fn start(lab: &Lab) -> Self {
        let wan = lab.wan("wan1");
        let isp = wan.isp();
        let this = std::env::current_exe().unwrap();
        let deps = this.parent().unwrap();
        let folders = [deps.parent().unwrap().to_path_buf(), deps.join("../../lab")];
        let program =
            folders.iter().map(|folder| folder.join("wanbond-server")).find(|p| p.is_file());
        let program = program.expect("wanbond-server is built").display().to_string();
        let state = lab.dir().join("second").display().to_string();
        let ok = |args: &[&str]| {
            let output =
                isp.output(&program, &[&["--state", state.as_str()], args].concat()).unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        ok(&["init", "--endpoint", &wan.net().public_v4().to_string()]);
        let code = ok(&["router", "add", "router1"]);
        let log = std::fs::File::create(lab.log_dir().join("second.log")).unwrap();
        let mut command: Command = Namespace::command(&program);
        command.args(["--state", &state, "run"]).stderr(log);
        Self { child: isp.spawn(command).unwrap(), code }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_over() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let second = Second::start(&lab);
    let router = lab.router(0);
    let mut config = router.pair().unwrap();
    config.extra = format!("\nconfig server 'spare'\n\toption code '{}'\n", second.code);
    router.configure(&config).unwrap();
    router.start().unwrap();
    all_up(&lab);
    let status = router
        .wait_status(PATIENCE, "the second server stands by", |status| {
            status.servers.len() == 2 && status.servers[1].state == ServerState::Standby
        })
        .unwrap();
    assert!(status.servers[0].in_use && !status.servers[1].in_use, "{:?}", status.servers);
    assert!(status.servers[1].rtt_ms.is_some(), "{:?}", status.servers);
    let seen = common::seen_from(lab.lan(0), http()).await.unwrap();
    assert_eq!(seen, wanbond_lab::topology::VPS_V4);

    let job = Download::timed(http(), Duration::from_secs(300));
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        lab.server().kill().unwrap();
        let killed = Instant::now();
        wait_until("the second server is used", || {
            router.status().is_ok_and(|status| {
                let link = status.server.as_ref();
                status.servers[1].in_use
                    && link.is_some_and(|link| link.state == ServerState::Connected)
            })
        })
        .await;
        println!("another server is connected {} ms after the kill", killed.elapsed().as_millis());
    });
    // What was open is reset, not left hanging.
    assert!(!got.complete, "{got:?}");
    // What comes from the ISP's own machine has its cable's address.
    let used = Ipv4Addr::new(10, 201, 1, 2);
    let start = Instant::now();
    while common::seen_from(lab.lan(0), http()).await.ok() != Some(used.into()) {
        assert!(start.elapsed() < PATIENCE, "new connections don't go over the second server");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    all_up(&lab);
    let got = download(lab.lan(0), &Download::new(http(), 3_000_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    let text = router.cli(&["status"]).unwrap();
    assert!(text.contains("vps unreachable") || text.contains("vps unknown"), "{text}");
}
