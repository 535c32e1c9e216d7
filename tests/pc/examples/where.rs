use nmiprof_pc::Machine;
use nmiprof_pc::harness::config;
use nmiprof_pmu::profiles::K8;
use std::collections::BTreeMap;
fn main() {
    let hz: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut c = config(&K8, "duration_ns=1000000 period=7001 events=cycles");
    c.clock_hz = hz;
    let mut machine = Machine::new(&c);
    let mut seen = BTreeMap::new();
    let mut order = Vec::new();
    loop {
        let stopped = machine.run(20_011);
        let st = machine.registers();
        let mut rip = st.rip;
        let sled = machine.symbol("nop_sled_start").start;
        if rip >= sled && rip < sled + 8192 {
            rip = machine.read_word(st.general[5] + 8).unwrap_or(0);
        }
        let name = machine
            .kernel()
            .symbols()
            .find(|(_, r)| r.contains(&rip) && r.end - r.start > 1)
            .map_or_else(|| format!("{rip:#x}"), |(n, _)| n.to_string());
        if order.last() != Some(&name) {
            order.push(name.clone());
        }
        *seen.entry(name).or_insert(0) += 1;
        if format!("{stopped:?}") != "Limit" {
            break;
        }
    }
    let mut all: Vec<_> = seen.into_iter().collect();
    all.sort_by_key(|x| -x.1);
    for (n, c) in all.iter().take(15) {
        println!("{c} {n}");
    }
    println!("{}", machine.instructions());
    order.truncate(60);
    println!("{order:?}");
}
