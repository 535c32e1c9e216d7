//! How many samples the host decodes in a second, from line bytes to samples, on one core.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nmiprof::capture::{CaptureError, Stream};
use nmiprof_bench::flat_line;

const SAMPLES: u64 = 200_000;

fn decode(criterion: &mut Criterion) {
    let line = flat_line(SAMPLES);
    println!("{:.2} bytes per sample", line.len() as f64 / SAMPLES as f64);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(SAMPLES));
    group.bench_function("flat", |bencher| {
        bencher.iter(|| {
            let (mut stream, mut seen) = (Stream::new("bench"), 0_u64);
            let decoded: Result<(), CaptureError> = stream.push(&line, |block| {
                seen += block.samples.len() as u64;
                Ok(())
            });
            decoded.expect("a sound line");
            assert_eq!(seen, SAMPLES);
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
