//! The `nmiprof` command.
fn main() {}
