//! Flags that several commands share, and the words of the kernel command line that they become.
//!
//! - [`MachineArgs`]: the machine;
//! - [`AttachArgs`]: or the line of one that runs already; [`Given`]: which flags the user gave;
//! - [`WorkArgs`]: what runs on it, and how long;
//! - [`PmuArgs`]: what counts; [`EventArgs`]: which events;
//! - [`CpuArgs`]: which CPUs' samples are looked at;
//! - [`programs`]: user programs, packed for the kernel;
//! - [`values`]: from the text of a flag to its value.

mod attach;
mod cpus;
mod events;
mod given;
mod machine;
mod pmu;
pub(super) mod programs;
pub(super) mod values;
mod work;

pub use attach::AttachArgs;
pub use cpus::CpuArgs;
pub use events::EventArgs;
pub use given::Given;
pub use machine::MachineArgs;
pub use pmu::PmuArgs;
pub use work::WorkArgs;
