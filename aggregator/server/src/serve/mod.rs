//! Listeners, sessions and lanes.

use std::sync::Arc;

use tokio::sync::watch;
use wanbond_proto::keys::SecretKey;

use crate::config::Config;
use crate::directory::Directory;
use crate::egress::Egress;
use crate::limits::Budget;

/// What serving stands on.
#[derive(Clone)]
pub struct ServeContext {
    /// `server.toml`, as it changes.
    pub config: watch::Receiver<Arc<Config>>,
    /// The server's static key.
    pub key: SecretKey,
    /// Who is admitted, as it changes.
    pub directory: Arc<Directory>,
    /// The way out.
    pub egress: Arc<Egress>,
    /// How much.
    pub limits: Arc<Budget>,
    /// Becomes true when the server is to stop: take nothing new, let flows finish for
    /// `config.drain`, then return.
    pub shutdown: watch::Receiver<bool>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When nothing can be listened on.
pub async fn run(mut context: ServeContext) -> anyhow::Result<()> {
    context.shutdown.wait_for(|stop| *stop).await?;
    Ok(())
}
