use super::*;
pub(super) fn run(driver: &Arc<TunnelDriver>) {
    if std::env::var_os("WANBOND_TRACE").is_none() { return; }
    let weak = Arc::downgrade(driver);
    tokio::spawn(async move {
        let mut last = std::time::Instant::now();
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let late = last.elapsed().as_millis() as i64 - 100;
            last = std::time::Instant::now();
            let Some(driver) = weak.upgrade() else { return };
            let mut line = format!("TRACE {:?} {:8} late {late}", driver.role, driver.clock.now().as_micros() / 1000);
            let core = lock(&driver.core);
            for id in 0..4 {
                let Some(id) = PathId::new(id) else { continue };
                if let Some(f) = core.tunnel.path_figures(id) {
                    line += &format!(" | {:?} {:?} srtt {} rate {} kB/s q {} ms fl {} {}", id.number(), f.liveness, f.srtt.map_or(0, |s| s.as_millis()), f.rate/1000, f.queue.as_millis(), f.in_flight, f.extra);
                }
            }
            let f = core.tunnel.figures();
            line += &format!(" | {:?} {}", f, core.tunnel.debug());
            drop(core);
            eprintln!("{line}");
        }
    });
}
