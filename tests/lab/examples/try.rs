use wanbond_lab::{Lab, scenario::Scenario};
fn main() {
    let t = std::time::Instant::now();
    let lab = Lab::build(&{
        let a = std::env::args().nth(1).unwrap();
        if a.contains("toml") {
            Scenario::load(a.as_ref()).unwrap()
        } else {
            Scenario::named(&a).unwrap()
        }
    })
    .unwrap();
    println!("built in {:?} rt {}", t.elapsed(), lab.emulator().is_real_time());
    for ns in lab.namespaces() {
        println!("{} {}", ns.name(), ns.enter_hint());
    }
    for c in std::env::args().skip(2) {
        let (ns, cmd) = c.split_once(':').unwrap();
        let ns = lab.namespaces().find(|n| n.name() == ns).unwrap();
        let mut k = wanbond_lab::ns::Namespace::command("bash");
        k.arg("-c").arg(cmd);
        let _ = ns.spawn(k).unwrap().wait();
    }
    for w in lab.wans() {
        println!("{:?}", w.counters().unwrap());
    }
}
