//! A sample costs few bytes on the line.
//!
//! Method: all workloads, as in the demo, without and with call chains. A size counts blocks and
//! definitions of call chains with CRC, COBS and delimiters.

use nmiprof::images::Image;
use nmiprof_tests::Boot;

fn bytes_per_sample(words: &str) -> Option<f64> {
    let boot = Boot::image(Image::Main).append("duration_ns=1000000000 period=50021").append(words);
    let run = boot.run().passed()?;
    run.record.bytes_per_sample()
}

#[test]
fn a_flat_sample_is_at_most_five_bytes_and_one_with_its_chain_at_most_ten() {
    let (Some(flat), Some(chained)) = (bytes_per_sample("chains=off"), bytes_per_sample("chains=on")) else {
        return;
    };
    println!("bytes per sample: {flat:.2} flat, {chained:.2} with call chains");
    assert!(flat <= 5.0, "{flat:.2}");
    assert!(chained <= 10.0, "{chained:.2}");
}
