//! Flags that describe a machine.

use std::path::PathBuf;

use nmiprof_wire::CpuList;

use super::values::{choice, on_off};
use crate::commands::Error;
use crate::machine::{Accel, MachineConfig, Size};

/// Flags that describe a machine.
#[derive(Clone, Debug, clap::Args)]
pub struct MachineArgs {
    /// CPUs of the machine; with more than one a tick of the clock is an instruction of any of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=255))]
    pub cpus: u16,

    /// Memory of the machine
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub memory: Size,

    /// What executes the machine's instructions: QEMU's translator, or the CPU itself with its performance counters
    #[arg(long, value_name = "tcg|kvm", default_value = "tcg", value_parser = choice(Accel::ALL, Accel::name))]
    pub accel: Accel,

    /// CPU model, in QEMU's words [default: qemu64, or host,pmu=on with --accel kvm]
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,

    /// Let the machine's clock count instructions: exact events, and runs that repeat exactly; always off
    /// with --accel kvm
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = on_off(), action = clap::ArgAction::Set)]
    pub icount: bool,

    /// QEMU argument, passed verbatim after all others (repeatable)
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<String>,

    /// Words for the kernel command line, after all others
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append: Option<String>,

    /// Agree to install QEMU where it is missing
    #[arg(long)]
    pub yes: bool,
}

impl MachineArgs {
    /// Refuses what this target can't do.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to do instead.
    pub(in crate::commands) fn check(&self) -> Result<(), Error> {
        match self.mutant() {
            None => Ok(()),
            Some(mutant) => Err(Error::Usage(format!(
                "--append mutant={mutant}: an NMI entry with a known defect makes no profile; leave the word out, or \
                 see `nmiprof selftest nmi`"
            ))),
        }
    }

    /// Refuses CPUs that the machine does not have.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to do instead.
    pub(in crate::commands) fn check_list(&self, list: &str) -> Result<(), Error> {
        let highest = CpuList::parse(list).ok().and_then(CpuList::highest);
        match highest.filter(|highest| *highest >= self.cpus) {
            None => Ok(()),
            Some(highest) => Err(Error::Usage(format!(
                "-C {list}: the machine has {} CPUs, counted from 0; give it more with --cpus {}",
                self.cpus,
                u32::from(highest) + 1
            ))),
        }
    }

    /// Returns the machine that boots `image`.
    #[must_use]
    pub fn config(&self, image: &'static [u8], line: PathBuf) -> MachineConfig<'static> {
        MachineConfig {
            cpus: self.cpus,
            memory: self.memory,
            accel: self.accel,
            cpu: self.cpu.clone().unwrap_or_else(|| self.accel.default_cpu().to_owned()),
            icount: self.icount,
            extra_args: self.qemu_args.clone(),
            ..MachineConfig::new(image, line)
        }
    }

    /// Returns a kernel command line with the user's words last, so that they win.
    pub(in crate::commands) fn with_appended(&self, options: &str) -> String {
        match &self.append {
            Some(words) => format!("{options} {words}"),
            None => options.to_owned(),
        }
    }

    /// Returns the mutant that the user's own words ask for.
    fn mutant(&self) -> Option<&str> {
        let words = self.append.as_deref()?.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix("mutant=")).next_back().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    fn args(words: &[&str]) -> MachineArgs {
        parse(words).expect("sound flags")
    }

    #[test]
    fn mutants_are_refused() {
        let error = args(&["--append", "mutant=no-gap-check"]).check().expect_err("a mutant").to_string();
        assert!(error.contains("mutant=no-gap-check") && error.contains("selftest nmi"), "{error}");
        args(&["--append", "mutant="]).check().expect("none is none");
    }

    #[test]
    fn qemu_arguments_are_taken_verbatim_and_in_order() {
        let args = args(&["--qemu-arg", "-d", "--qemu-arg", "int,cpu_reset", "--qemu-arg=-m"]);
        assert_eq!(args.qemu_args, ["-d", "int,cpu_reset", "-m"]);
    }
}
