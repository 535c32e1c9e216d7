//! What is asked of a machine, and the QEMU arguments that it becomes.
//!
//! The arguments fix everything that a deterministic run depends on: machine type, CPU model (one without
//! RDRAND), number of virtual CPUs, random seed, and a clock that starts at a fixed date and follows the guest.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nmiprof_wire::ExitCode;

use super::medium::Medium;

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct MachineConfig<'a> {
    /// The ELF file to boot.
    pub image: &'a [u8],
    /// What the boot loader hands over besides; empty for nothing.
    pub module: Vec<u8>,
    /// The kernel command line, as `nmiprof_wire::Options` reads it.
    pub kernel_command_line: String,
    /// A medium to boot from; then there is no image, no module and no command line but those on it.
    pub medium: Option<Medium>,
    /// Machine type, in QEMU's words.
    pub machine: String,
    /// CPUs of the machine.
    pub cpus: u16,
    /// Memory of the machine.
    pub memory: Size,
    /// What executes its instructions.
    pub accel: Accel,
    /// CPU model, in QEMU's words.
    pub cpu: String,
    /// Whether the machine's time is its count of retired instructions; TCG only.
    pub icount: bool,
    /// Whether the machine has the device by which the kernel ends it.
    pub has_exit_device: bool,
    /// Whether the machine has the serial port that the kernel writes to.
    pub has_serial_port: bool,
    /// QEMU arguments that follow ours, verbatim, so that they win.
    pub extra_args: Vec<String>,
    /// The file that the serial line is written to. It is emptied first.
    pub line: PathBuf,
    /// Wall time after which the machine is ended.
    pub limit: Duration,
}

impl<'a> MachineConfig<'a> {
    /// Creates a machine with the defaults of `nmiprof record`.
    #[must_use]
    pub fn new(image: &'a [u8], line: PathBuf) -> Self {
        Self {
            image,
            module: Vec::new(),
            kernel_command_line: String::new(),
            medium: None,
            machine: "pc".to_owned(),
            cpus: 1,
            memory: Size::mib(256),
            accel: Accel::Tcg,
            cpu: Accel::Tcg.default_cpu().to_owned(),
            icount: true,
            has_exit_device: true,
            has_serial_port: true,
            extra_args: Vec::new(),
            line,
            limit: Duration::from_secs(60),
        }
    }

    /// Returns the arguments for QEMU, with the image in the file `image`, if one is booted, and the module, if any, in
    /// another one.
    #[must_use]
    pub fn arguments(&self, image: Option<&Path>, module: Option<&Path>) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        push(&mut args, "-M");
        args.push(self.machine.clone().into());
        push(&mut args, "-cpu");
        args.push(self.cpu.clone().into());
        push(&mut args, "-smp");
        args.push(self.cpus.to_string().into());
        push(&mut args, "-m");
        args.push(self.memory.to_string().into());
        push(&mut args, "-accel");
        args.push(self.accel.name().into());
        if self.icount && self.accel == Accel::Tcg {
            push(&mut args, "-icount shift=0,sleep=off");
        }
        push(&mut args, "-seed 1 -rtc base=2000-01-01T00:00:00,clock=vm");
        push(&mut args, "-nodefaults -no-user-config -display none -monitor none -no-reboot");
        if self.has_exit_device {
            push(&mut args, "-device");
            args.push(format!("isa-debug-exit,iobase={:#x},iosize=0x04", ExitCode::PORT).into());
        }
        if self.has_serial_port {
            push(&mut args, "-chardev");
            args.push(file_chardev("line", &self.line));
            push(&mut args, "-serial chardev:line");
        } else {
            push(&mut args, "-serial none");
        }
        match &self.medium {
            Some(medium) => args.extend(medium.arguments()),
            None => self.push_kernel(&mut args, image, module),
        }
        args.extend(self.extra_args.iter().map(OsString::from));
        args
    }

    fn push_kernel(&self, args: &mut Vec<OsString>, image: Option<&Path>, module: Option<&Path>) {
        for (flag, file) in [("-kernel", image), ("-initrd", module)] {
            if let Some(file) = file {
                args.extend([flag.into(), file.into()]);
            }
        }
        args.extend(["-append".into(), self.kernel_command_line.clone().into()]);
    }
}

/// What executes a machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's translator: it has no performance counters, and its time can be a count of instructions.
    Tcg,
    /// The CPU itself: with its performance counters, where the host lets the guest have them.
    Kvm,
}

impl Accel {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::Tcg, Self::Kvm];

    /// Returns QEMU's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }

    /// Returns the CPU model that fits: one that is the same everywhere, or the host's with its PMU.
    #[must_use]
    pub const fn default_cpu(self) -> &'static str {
        match self {
            Self::Tcg => "qemu64",
            Self::Kvm => "host,pmu=on",
        }
    }
}

impl FromStr for Accel {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|accel| accel.name() == word).ok_or("tcg, kvm")
    }
}

fn push(args: &mut Vec<OsString>, words: &str) {
    args.extend(words.split(' ').map(OsString::from));
}

/// Returns the option of a character device that writes to a file and never blocks.
fn file_chardev(id: &str, path: &Path) -> OsString {
    with_commas_doubled(&format!("file,id={id},path="), path)
}

/// Returns an option that ends with a path: QEMU separates options by commas and reads two of them as one in a name.
pub(super) fn with_commas_doubled(option: &str, path: &Path) -> OsString {
    let mut option = OsString::from(option);
    for (i, part) in split_at_commas(path).into_iter().enumerate() {
        if i > 0 {
            option.push(",,");
        }
        option.push(part);
    }
    option
}

fn split_at_commas(path: &Path) -> Vec<OsString> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b',');
    parts.map(|part| OsString::from_vec(part.to_vec())).collect()
}

/// A size in bytes, written as QEMU and perf write it: `256M`, `64K`, `1G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    bytes: u64,
}

impl Size {
    const UNITS: [(char, u64); 4] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10), ('B', 1)];

    /// Creates a size of so many bytes.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Creates a size of so many mebibytes.
    #[must_use]
    pub const fn mib(mib: u32) -> Self {
        Self { bytes: (mib as u64) << 20 }
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &(char, u64)| self.bytes >= *unit && self.bytes.is_multiple_of(*unit);
        let (letter, unit) = Self::UNITS.into_iter().find(fits).unwrap_or(('B', 1));
        write!(f, "{}{letter}", self.bytes / unit)
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a whole number above 0 with K, M, G or B after it, such as 256M";
        let letter = text.chars().next_back().ok_or(EXPECTED)?;
        let unit = Self::UNITS.into_iter().find(|(name, _)| letter.eq_ignore_ascii_case(name));
        let (digits, factor) = match unit {
            Some((_, factor)) => (&text[..text.len() - 1], factor),
            None => return Err(EXPECTED),
        };
        let number: u64 = digits.parse().map_err(|_| EXPECTED)?;
        let bytes = number.checked_mul(factor).filter(|bytes| *bytes > 0);
        bytes.map(Self::of_bytes).ok_or(EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(config: &MachineConfig<'_>) -> Vec<String> {
        let args = config.arguments(Some(Path::new("k.elf")), None);
        args.into_iter().map(|arg| arg.into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn extra_arguments_come_last_so_that_they_win() {
        let mut config = MachineConfig::new(b"", PathBuf::from("out"));
        config.extra_args = vec!["-m".to_owned(), "1G".to_owned()];
        let args = arguments(&config);
        assert_eq!(args[args.len() - 2..], ["-m", "1G"]);
    }

    #[test]
    fn the_kernel_command_line_is_one_argument() {
        let mut config = MachineConfig::new(b"", PathBuf::from("out"));
        config.kernel_command_line = "period=7 chains=on".to_owned();
        let args = arguments(&config);
        let at = args.iter().position(|arg| arg == "-append").expect("there is one");
        assert_eq!(args[at + 1], "period=7 chains=on");
    }

    #[test]
    fn time_counts_instructions_only_where_it_is_asked_for() {
        let mut config = MachineConfig::new(b"", PathBuf::from("out"));
        assert!(arguments(&config).contains(&"-icount".to_owned()));
        config.icount = false;
        assert!(!arguments(&config).contains(&"-icount".to_owned()));
    }

    #[test]
    fn under_kvm_time_is_time_and_the_cpu_is_the_hosts() {
        let mut config = MachineConfig::new(b"", PathBuf::from("out"));
        assert!(arguments(&config).join(" ").contains("-cpu qemu64 -smp 1 -m 256M -accel tcg -icount"));
        (config.accel, config.cpu) = (Accel::Kvm, Accel::Kvm.default_cpu().to_owned());
        let args = arguments(&config).join(" ");
        assert!(args.contains("-cpu host,pmu=on -smp 1 -m 256M -accel kvm -seed"), "{args}");
    }

    #[test]
    fn the_exit_device_is_left_out_where_it_is_not_wanted() {
        let mut config = MachineConfig::new(b"", PathBuf::from("out"));
        let exit_device = "isa-debug-exit,iobase=0xf4,iosize=0x04".to_owned();
        assert!(arguments(&config).contains(&exit_device));
        config.has_exit_device = false;
        assert!(!arguments(&config).contains(&exit_device));
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        let option = file_chardev("line", Path::new("/tmp/a,b,,c"));
        assert_eq!(option, "file,id=line,path=/tmp/a,,b,,,,c");
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for text in ["256M", "1G", "4096K", "7B", "1536M"] {
            let size: Size = text.parse().expect(text);
            let again: Size = size.to_string().parse().expect("its own form");
            assert_eq!(size, again, "{text}");
        }
        assert_eq!("64k".parse(), Ok(Size::of_bytes(65536)));
        for wrong in ["", "M", "0M", "-1M", "1.5G", "12", "99999999999999G", "8µ"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
    }
}
