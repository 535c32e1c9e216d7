//! What the property tests of the driver share.
//!
//! | file | what |
//! |---|---|
//! | `random.rs` | choices, and the seed |
//! | `events.rs` | encodings, and what they count |
//! | `truth.rs` | what every counter has counted, and what is to be reported |
//! | `cpu.rs` | the bus under the driver: the model, its NMIs, what happens between accesses |
//! | `program.rs` | programs of driver operations, and the checks |
//! | `machine.rs`, `sampling.rs` | the same for the engine |
//! | `mutants.rs` | the driver's known mistakes, for tests of the tests |
//! | `log.rs` | what is printed with a failure |

pub(crate) mod cpu;
pub(crate) mod events;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod mutants;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod sampling;
pub(crate) mod truth;
