//! Goal: what `report`, `script`, `info`, `export`, `stat`, `list` and `selftest pmu` print, find and refuse.
//!
//! Method: captures by the reference writer, a kernel ELF of four functions made by hand, and the
//! commands called as the library functions that the binary calls. Whole outputs are compared with the
//! files in `snapshots/`; `NMIPROF_BLESS=1` writes those anew.

mod counted;
mod counts;
mod cpus;
mod elf;
mod embedded;
mod errors;
mod export;
mod fixture;
mod hostile;
mod info;
mod inlines;
mod process;
mod report;
mod script;
mod several;
