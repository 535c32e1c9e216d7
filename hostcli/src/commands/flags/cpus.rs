//! The flag that says which CPUs' samples are looked at.

use nmiprof_wire::CpuList;

use super::values::cpu_list;
use crate::capture::RunInfo;
use crate::commands::Error;

/// Which CPUs' samples to look at.
#[derive(Clone, Debug, clap::Args)]
pub struct CpuArgs {
    /// Look at the samples of these CPUs only, a list such as 0,2-3 [default: all]
    #[arg(short = 'C', long = "cpu", value_name = "LIST", value_parser = cpu_list)]
    pub cpu: Option<String>,
}

impl CpuArgs {
    /// Returns the CPUs, which have to be in the capture.
    ///
    /// # Errors
    /// [`Error::Usage`] names those that there are.
    pub(in crate::commands) fn list(&self, run: &RunInfo) -> Result<CpuList<'_>, Error> {
        let text = self.cpu.as_deref().unwrap_or_default();
        let list = CpuList::parse(text).map_err(|expected| Error::Usage(expected.to_owned()))?;
        match list.highest().filter(|highest| *highest >= run.cpus) {
            None => Ok(list),
            Some(_) => {
                let last = run.cpus.saturating_sub(1);
                Err(Error::Usage(format!("-C {text}: the CPUs of the capture are 0 to {last}")))
            }
        }
    }
}
