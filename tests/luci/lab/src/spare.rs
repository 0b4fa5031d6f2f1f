//! A second server, for what happens when the first is gone.

use std::path::Path;
use std::process::Child;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wanbond_lab::Lab;
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::origin;

/// A server where the first line ends in the Internet. It ends with this.
pub(crate) struct Spare {
    child: Child,
    /// A router's pairing code.
    pub(crate) code: String,
}

impl Spare {
    /// Starts it with keys of its own.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let wan = lab.wans().next().context("the lab has a WAN")?;
        let (isp, state) = (wan.isp(), lab.dir().join("spare"));
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new(".")).join("wanbond-server");
        let (program, state) = (beside.display().to_string(), state.display().to_string());
        let run = |args: &[&str]| -> Result<String> {
            let output = isp.output(&program, &[&["--state", state.as_str()], args].concat())?;
            ensure!(output.status.success(), "{output:?}");
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        run(&["init", "--endpoint", &wan.net().public_v4().to_string()])?;
        let code = run(&["router", "add", "router1"])?;
        let mut command = Namespace::command(&program);
        let log = std::fs::File::create(lab.log_dir().join("spare.log"))?;
        command.args(["--state", &state, "run"]).stderr(log);
        Ok(Self { child: isp.spawn(command)?, code })
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address that the web server in the Internet sees a host of the LAN come from.
pub(crate) async fn seen_from(lab: &Lab) -> Result<String> {
    let mut stream = lab.lan(0).tcp_connect((ORIGIN_V4, origin::HTTP).into()).await?;
    stream.write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.rsplit("\r\n").next().unwrap_or_default().to_owned())
}
