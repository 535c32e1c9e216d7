//! Eight CPUs nest NMIs at once, with every sound NMI entry, while their ring pages come and go.
//!
//! Method: a self-NMI from the fault path of every first touch, and rings so small that a page's next touch is soon a
//! first one again. Each CPU has to account for itself, and no NMI may be left that nothing explains.

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_tests::combinations::{nests, sound};
use nmiprof_wire::{Options, RingMode, Sampling, Stress};

const CPUS: u16 = 8;

#[test]
fn every_sound_form_survives_nesting_on_eight_cpus_at_once() {
    let base = Options {
        workloads: "sort",
        duration_ns: 30_000_000,
        sampling: Sampling::Period(10_007),
        stress: Stress::Nest,
        ring_bytes: 16 << 10,
        decommit: 1,
        chains: true,
        ..Options::default()
    };
    for options in sound(base) {
        let Some(run) = Boot::image(Image::Main).options(&options).cpus(CPUS).run().passed() else { return };
        assert_eq!(run.record.accounts().cpus().len(), usize::from(CPUS));
        for (cpu, account) in run.record.accounts().cpus().iter().enumerate() {
            let balance = account.balance();
            assert_eq!(account.identity(), Identity::Holds, "{options}, CPU {cpu}: {balance:?}");
            assert!(!account.is_nmi_inconsistent(), "{options}, CPU {cpu}: {balance:?}");
            assert_eq!(
                (balance.nmi.unknown, balance.dropped.fault),
                (0, 0),
                "{options}, CPU {cpu}: {balance:?}"
            );
            assert!(
                balance.received > 100 && balance.memory.decommitted > 4,
                "{options}, CPU {cpu}: {balance:?}"
            );
            let pages = balance.ring_pages + balance.memory.decommitted;
            assert_eq!(balance.nmi.first_touches, pages, "{options}, CPU {cpu}: {balance:?}");
            assert_eq!(balance.nmi.nested > 0, nests(&options), "{options}, CPU {cpu}: {balance:?}");
        }
    }
}

/// The CPUs really run at the same time, as far as the host has some. It may stop one of them between a message and its
/// NMI, for so long that the NMI counts as unknown when it comes; so nothing is said of those.
#[test]
fn without_icount_they_do_as_well() {
    for ring in [RingMode::Lazy, RingMode::Sync] {
        let lazy = ring == RingMode::Lazy;
        let words = format!(
            "workload=sort stress=nest ring={ring} ring_bytes=16384 decommit={} chains=on period=20011 \
             duration_ns=1000000000",
            u32::from(lazy)
        );
        let boot = Boot::image(Image::Main).append(&words).cpus(CPUS).without_icount();
        let Some(run) = boot.run().passed() else { return };
        for (cpu, account) in run.record.accounts().cpus().iter().enumerate() {
            let balance = account.balance();
            assert_eq!(account.identity(), Identity::Holds, "{words}, CPU {cpu}: {balance:?}");
            assert!(!account.is_nmi_inconsistent(), "{words}, CPU {cpu}: {balance:?}");
            assert!(balance.received > 0 && balance.dropped.fault == 0, "{words}, CPU {cpu}: {balance:?}");
        }
    }
}
