//! Call chains hold return addresses and nothing else.
//!
//! Method: the self-test image spins at one address while RBP points to two words on its stack that are no frame but
//! look like one of user code. There are no programs, so whoever believes them is wrong. Each form of a
//! sample with a chain is asked: the usual one, and the general one, which knows user code.

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_tests::samples::samples;

#[test]
fn what_looks_like_user_code_is_no_caller_where_no_user_code_runs() {
    for event in ["instructions", "instructions:k"] {
        let words = format!("selftest=frameless period=1009 chains=on events={event}");
        let Some(run) = Boot::image(Image::Selftest).append(&words).run().passed() else { return };
        let accounts = run.record.accounts();
        assert_eq!(accounts.identity(), Identity::Holds);
        let address =
            address_in(&run.record.messages().logs().iter().map(|line| &*line.text).collect::<Vec<_>>());
        let samples = samples(&run.capture);
        let astray: Vec<_> = samples.iter().filter(|sample| sample.ip == address).collect();
        println!("{event}: {} of {} samples at {address:#x}", astray.len(), samples.len());
        assert!(astray.len() > 900, "nearly all are there");
        assert!(astray.iter().all(|sample| sample.callers.is_empty()), "{event}: {:x?}", astray[0]);
        assert_eq!(accounts.total().cut_chains.pointer, astray.len() as u64, "{event}: each counts as cut");
    }
}

/// Finds the address that the self-test named.
fn address_in(lines: &[&str]) -> u64 {
    let named = lines.iter().find_map(|line| line.strip_prefix("frameless: no caller of 0x"));
    let digits = named.and_then(|rest| rest.split_once(' ')).expect("the self-test ran").0;
    u64::from_str_radix(digits, 16).expect("an address")
}
