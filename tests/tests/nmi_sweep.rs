//! The quick subset of the NMI sweep: one form of each strategy, the pairs of its windows, and one mutant of it.
//!
//! Method: what `nmiprof selftest nmi --quick --json` prints, and its outcome.

use clap::Parser;
use nmiprof::commands::{Outcome, selftest};
use nmiprof_tests::qemu;
use serde_json::Value;

#[derive(Parser)]
struct SelftestCommand {
    #[command(flatten)]
    args: selftest::Args,
}

// cases 1 to 11, 13
#[test]
fn every_entry_is_as_sound_as_it_claims() {
    if let Err(skip) = qemu() {
        return skip.register();
    }
    let command = SelftestCommand::parse_from(["selftest", "nmi", "--quick", "--json", "--quiet"]);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = selftest::run(&command.args, &mut out, &mut notes).expect("the sweep can be done");
    let text = String::from_utf8_lossy(&out);
    assert_eq!(outcome, Outcome::Good, "{text}");
    let combinations: Vec<Value> = serde_json::from_str(&text).expect("a JSON array");
    for swept in combinations {
        assert!(swept["runs"].as_u64() > Some(0), "{swept:#}");
        let is_clean = swept["missed"].as_array().is_some_and(Vec::is_empty) && swept["failures"] == 0;
        assert_eq!(swept["sound"].as_bool(), Some(is_clean), "{swept:#}");
        if is_clean {
            let pairs = &swept["pairs"];
            assert!(pairs["total"].as_u64() > Some(500) && pairs["hit"] == pairs["total"], "{pairs:#}");
            assert!(pairs["runs"].as_u64() > Some(10_000) && pairs["failures"] == 0, "{pairs:#}");
        }
    }
}
