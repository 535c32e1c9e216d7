//! Nothing: the work is in `tests/pc.rs`, which has to be built and run before the package that it tests can be built.
