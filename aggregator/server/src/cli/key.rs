//! `wanbond-server key …`: the server's own key, replaced without losing a router.

use clap::Subcommand;

use crate::state::StateDir;

const RESTART: &str = "it counts from the server's next start: systemctl restart wanbond-server";

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a new key for the codes made from now on; routers paired before stay admitted
    Rotate,
    /// End a rotation: routers that still use the key before it are admitted no more
    ForgetPrevious,
}

pub(super) fn run(state: &StateDir, command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Rotate => {
            println!("public key: {}", state.rotate_key()?);
            eprintln!(
                "{RESTART}\n\
                 then give each router a new code (`wanbond-server router rekey NAME`), and when all \
                 have it: `wanbond-server key forget-previous`"
            );
        }
        KeyCommand::ForgetPrevious => {
            state.forget_previous_key()?;
            eprintln!("{RESTART}");
        }
    }
    Ok(())
}
