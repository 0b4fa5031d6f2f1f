//! Cutting a WAN for a drill: what goes through its device is dropped, both ways, without a word.

use std::fmt::Write as _;
use std::time::Duration;

use super::FirewallError;
use super::render::device_set;
use crate::owned::Owner;

/// A cut of one device. The kernel itself ends it when its time is over, whatever becomes of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The device.
    pub device: String,
    /// How long at most; whole seconds.
    pub time: Duration,
}

impl Cut {
    /// The ruleset that replaces the drill's table with this cut.
    ///
    /// # Errors
    /// [`FirewallError::BadDevice`] for what nft would choke on.
    pub fn render(&self) -> Result<String, FirewallError> {
        let table = Owner::DRILL_TABLE;
        let bad = || FirewallError::BadDevice(self.device.clone());
        let device = device_set(std::slice::from_ref(&self.device))?.ok_or_else(bad)?;
        let seconds = self.time.as_secs().max(1);
        let mut text = String::new();
        // Adding before deleting, as deleting what isn't there is an error. Outgoing packets are dropped
        // behind everything that looks at them, incoming ones before.
        let _ = write!(
            text,
            "add table inet {table}\n\
             delete table inet {table}\n\
             table inet {table} {{\n\
             \tset cut {{\n\
             \t\ttype ifname\n\
             \t\tflags timeout\n\
             \t\telements = {{ {device} timeout {seconds}s }}\n\
             \t}}\n\
             \tchain in {{\n\
             \t\ttype filter hook prerouting priority raw - 50; policy accept;\n\
             \t\tiifname @cut drop\n\
             \t}}\n\
             \tchain out {{\n\
             \t\ttype filter hook postrouting priority srcnat + 50; policy accept;\n\
             \t\toifname @cut drop\n\
             \t}}\n\
             }}\n"
        );
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_by_itself() {
        let cut = Cut { device: "eth1".into(), time: Duration::from_secs(15) };
        let text = cut.render().unwrap();
        assert!(text.contains("elements = { \"eth1\" timeout 15s }"), "{text}");
        let cut = Cut { device: "a\"; flush ruleset; \"".into(), ..cut };
        assert!(matches!(cut.render(), Err(FirewallError::BadDevice(_))));
    }
}
