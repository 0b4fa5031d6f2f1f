//! Other packages that steer the same traffic by rules of their own.

use crate::ubus::Value;

/// Their services. mwan3 marks the router's own packets and sends them by its policies, so that no WAN
/// of ours is the one it was bound to; pbr does it with what its policies name.
pub(crate) const NAMES: &[&str] = &["mwan3", "pbr"];

/// Whether procd's answer to `service list` shows the service as started.
pub(crate) fn is_active(services: &Value, name: &str) -> bool {
    let instances = services.get(name).and_then(|service| service.get("instances"));
    let Some(Value::Table(instances)) = instances else { return false };
    // pbr's instance ends at once, and its rules stay.
    !instances.is_empty()
}

/// What to tell people.
pub(crate) fn explain(name: &str) -> String {
    format!(
        "{name} is active and steers the same traffic; run '/etc/init.d/{name} stop' and '/etc/init.d/{name} disable', wanbond does without it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_service_has_instances() {
        let services = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let running = r#"{"mwan3":{"instances":{"rtmon_ipv4":{"running":true,"pid":7}}}}"#;
        assert!(is_active(&services(running), "mwan3"));
        assert!(is_active(&services(r#"{"pbr":{"instances":{"main":{"running":false}}}}"#), "pbr"));
        for idle in ["{}", r#"{"mwan3":{}}"#, r#"{"mwan3":{"instances":{}}}"#, r#"{"pbr":1}"#] {
            assert!(!is_active(&services(idle), "mwan3"), "{idle}");
        }
        assert!(explain("pbr").contains("/etc/init.d/pbr stop"));
    }
}
