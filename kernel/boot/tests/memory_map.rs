//! A memory map says of every byte what a plain list of bytes would say.
//!
//! Method: random sequences of additions and removals on a small address space, once as runs and once as an array of
//! flags, compared after every step; then the properties that nothing may break: order, gaps, bounds. proptest prints
//! the seed of a failure.

use nmiprof_boot::memory_map::PHYSICAL_END;
use nmiprof_boot::{MemoryMap, MemoryRange};
use proptest::prelude::*;

const SPACE: u64 = 64;

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u64, u64),
    Remove(u64, u64),
    Align(u32),
    TakeFirst(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..SPACE, 0..SPACE);
    prop_oneof![
        4 => range.clone().prop_map(|(start, end)| Step::Add(start, end)),
        3 => range.prop_map(|(start, end)| Step::Remove(start, end)),
        1 => (0_u32..4).prop_map(Step::Align),
        1 => (1_u64..8, 0..SPACE).prop_map(|(bytes, end)| Step::TakeFirst(bytes, end)),
    ]
}

fn assert_sound(map: &MemoryMap) {
    assert!(map.runs().iter().all(|run| !run.is_empty()), "{map:?}");
    assert!(map.runs().windows(2).all(|pair| pair[0].end < pair[1].start), "sorted, with gaps: {map:?}");
}

fn set(flags: &mut [bool], start: u64, end: u64, value: bool) {
    (start..end).for_each(|byte| flags[usize::try_from(byte).expect("small")] = value);
}

fn apply(step: Step, map: &mut MemoryMap, flags: &mut [bool]) {
    match step {
        Step::Add(start, end) => {
            map.add(MemoryRange { start, end });
            set(flags, start, end, true);
        }
        Step::Remove(start, end) => {
            map.remove(MemoryRange { start, end });
            set(flags, start, end, false);
        }
        Step::Align(shift) => {
            map.align(1 << shift);
            for unit in flags.chunks_mut(1 << shift) {
                let whole = unit.iter().all(|flag| *flag);
                unit.fill(whole);
            }
        }
        Step::TakeFirst(bytes, end) => {
            let expected = first_fit(flags, bytes, end);
            assert_eq!(map.take_first(bytes, end), expected, "{bytes} bytes below {end}");
            if let Some(start) = expected {
                set(flags, start, start + bytes, false);
            }
        }
    }
}

/// Finds the first run that is long enough below `end`: its start is what is taken.
fn first_fit(flags: &[bool], bytes: u64, end: u64) -> Option<u64> {
    let is_free = |at: u64| flags[usize::try_from(at).expect("small")];
    let starts = (0..SPACE).filter(|at| is_free(*at) && (*at == 0 || !is_free(at - 1)));
    let mut fitting = starts.filter(|start| start + bytes <= end && (*start..start + bytes).all(is_free));
    fitting.next()
}

proptest! {
    #[test]
    fn runs_and_flags_agree_after_every_step(steps in prop::collection::vec(step(), 1..60)) {
        let mut map = MemoryMap::new();
        let mut flags = vec![false; usize::try_from(SPACE).expect("small")];
        for step in steps {
            apply(step, &mut map, &mut flags);
            assert_sound(&map);
            for (at, flag) in (0..).zip(&flags) {
                prop_assert_eq!(map.contains(&MemoryRange::with_len(at, 1)), *flag, "{:?} after {:?}", map, step);
            }
        }
    }

    #[test]
    fn too_many_runs_lose_memory_and_never_gain_any(starts in prop::collection::vec(0_u64..1000, 200..300)) {
        let mut map = MemoryMap::new();
        for start in &starts {
            map.add(MemoryRange::with_len(start * 16, 1 + start % 8));
            assert_sound(&map);
        }
        for run in map.runs() {
            let start = run.start / 16;
            prop_assert!(starts.contains(&start) && *run == MemoryRange::with_len(start * 16, 1 + start % 8));
        }
        // A hole in a map that is full.
        let first = map.runs()[0];
        map.add(MemoryRange { end: first.start + 8, ..first });
        map.remove(MemoryRange::with_len(first.start + 3, 1));
        assert_sound(&map);
        prop_assert!(!map.contains(&MemoryRange::with_len(first.start + 3, 1)));
    }

    #[test]
    fn any_numbers_are_survived(ranges in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..300)) {
        let mut map = MemoryMap::new();
        for (start, len, is_ram) in ranges {
            let range = MemoryRange::with_len(start, len);
            if is_ram { map.add(range) } else { map.remove(range) }
            assert_sound(&map);
        }
        prop_assert!(map.runs().iter().all(|run| run.end <= PHYSICAL_END));
    }
}

#[test]
fn the_shortest_run_goes_where_there_are_too_many() {
    let mut map = MemoryMap::new();
    let runs = u64::try_from(MemoryMap::RUNS_MAX).expect("small");
    (0..=runs).for_each(|run| map.add(MemoryRange::with_len(run * 0x10000, 0x1000 + run)));
    assert_eq!(map.runs().len(), MemoryMap::RUNS_MAX);
    assert_eq!(map.runs()[0].start, 0x10000, "the first one was the shortest");
    map.add(MemoryRange::with_len(0, 1));
    assert_eq!(map.runs()[0].start, 0x10000, "and what is shorter still is not taken");
}
