//! What a record of a flat sample costs: stored by the producer, and taken out by the consumer.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nmiprof_bench::PresentMemory;
use nmiprof_ring::Ring;

const PAGES: usize = 64;
const RECORDS: u64 = 4096;

fn store_and_drain(criterion: &mut Criterion) {
    let mut ring = Ring::new(PresentMemory::new(PAGES)).expect("a sound capacity");
    let (mut producer, mut consumer) = ring.split();
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("store and drain flat records", |bencher| {
        bencher.iter(|| {
            for time in 0..RECORDS {
                let stored = producer.store(0, [time, black_box(0xffff_ffff_8010_0000)]);
                stored.expect("the ring is large enough");
            }
            let drained = consumer.drain(usize::MAX, |record| {
                black_box((record.word(0), record.word(1)));
                ControlFlow::Continue(())
            });
            assert_eq!(drained, Ok(4096));
        });
    });
    group.finish();
}

criterion_group!(benches, store_and_drain);
criterion_main!(benches);
