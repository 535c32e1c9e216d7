//! Machines that boot a kernel image: QEMU, as a library for `record`, `demo`, `doctor` and the tests.
//!
//! Top-down: [`boot`] starts a [`MachineConfig`] under a [`Program`], follows the line that the kernel
//! writes, and ends with a [`Boot`] that holds an [`Ending`].
//!
//! - [`config`]: what is asked of the machine, and the QEMU command line that it becomes;
//! - [`medium`]: a CD, disk or USB stick to boot from instead, by the machine's firmware;
//! - [`program`]: the QEMU executable, and [`install`], where it is missing;
//! - [`command_line`]: a command and its text form;
//! - [`process`]: one running QEMU, which ends when its owner does;
//! - [`mod@line`]: the file that the serial line is written to, decoded while it grows by a `follower`;
//! - [`supervise`]: the loop between start and end;
//! - [`ending`]: from what was seen to what it means.

pub mod command_line;
pub mod config;
pub mod ending;
pub(crate) mod follower;
pub mod install;
pub mod line;
pub mod medium;
pub mod process;
pub mod program;
pub mod supervise;

pub use command_line::CommandLine;
pub use config::{Accel, MachineConfig, Size};
pub use ending::{Ending, Evidence};
pub use install::{Consent, InstallError, Packager, Wanted, find_or_install};
pub use line::{Progress, is_complete};
pub use medium::{Drive, Medium};
pub use process::{Exit, StartError};
pub use program::{Program, ProgramError};
pub use supervise::{Boot, BootError, GRACE, Observer, Stop, boot};
