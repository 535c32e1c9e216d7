//! The questions that `doctor` asks.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use nmiprof_wire::{ClockKind, Line, Options, Sampling};

use super::Check;
use crate::attach::{self, Access};
use crate::capture::{Identity, clean};
use crate::images::{self, Image};
use crate::machine::{self, Boot, Ending, MachineConfig, Program};

/// The oldest version that the tests were run with.
const TESTED_QEMU: (u32, u32) = (7, 2);

/// Asks every question.
pub(super) fn all() -> Vec<Check> {
    let mut checks = vec![kernel_images()];
    match Program::find() {
        Ok(program) => {
            checks.push(qemu(&program));
            checks.extend(booted(&program));
        }
        Err(error) => checks.push(Check::fail("qemu", error.to_string(), "do what it says, then ask again")),
    }
    checks.push(serial(attach::accesses()));
    checks.push(terminal());
    checks
}

fn kernel_images() -> Check {
    let ids: Vec<_> = Image::ALL.into_iter().filter_map(|image| Some((image, image.build_id()?))).collect();
    let listed: Vec<_> = ids.iter().map(|(image, id)| format!("{image} {id}")).collect();
    let detail = format!("{}; built by {}", listed.join(", "), images::RUSTC);
    if ids.len() == Image::ALL.len() {
        Check::ok("images", detail)
    } else {
        let next = "build again: captures are matched to images by build-id";
        Check::fail("images", format!("an embedded kernel image has no build-id ({detail})"), next)
    }
}

fn qemu(program: &Program) -> Check {
    match program.version() {
        Err(error) => Check::fail("qemu", error.to_string(), "do what it says, then ask again"),
        Ok(version) => {
            let detail = format!("{version} ({program})");
            if version_number(&version).is_some_and(|found| found >= TESTED_QEMU) {
                return Check::ok("qemu", detail);
            }
            let (major, minor) = TESTED_QEMU;
            Check::warn(
                "qemu",
                detail,
                format!("if anything below fails, update it: {major}.{minor} is known to work"),
            )
        }
    }
}

/// Reads major and minor number out of `QEMU emulator version 7.2.22 (Debian ...)`.
fn version_number(line: &str) -> Option<(u32, u32)> {
    let (_, numbers) = line.split_once("version ")?;
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next()?.parse().ok()?))
}

/// Boots the embedded kernel for a moment, and asks what can be asked of that.
fn booted(program: &Program) -> Vec<Check> {
    match boot_briefly(program) {
        Err(why) => vec![Check::fail("boot", why, "see `nmiprof record -v`")],
        Ok(boot) if boot.record.run().is_none() => vec![silent(&boot)],
        Ok(boot) => vec![has_booted(&boot), icount(&boot), stream(&boot)],
    }
}

fn boot_briefly(program: &Program) -> Result<Boot, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = Options {
        duration_ns: 10_000_000,
        sampling: Sampling::Period(10_007),
        line: Line::File,
        ..Options::default()
    };
    let config = MachineConfig {
        kernel_command_line: options.to_string(),
        limit: Duration::from_secs(60),
        ..MachineConfig::new(images::MAIN, directory.path().join("line"))
    };
    machine::boot(program, &config, &mut ()).map_err(|error| error.to_string())
}

fn silent(boot: &Boot) -> Check {
    let says = if boot.stderr.is_empty() { String::new() } else { format!(" (QEMU says: {})", boot.stderr) };
    let next = "see what QEMU does with it: `nmiprof record --duration 0.01 -v --qemu-arg=-d --qemu-arg=int`";
    Check::fail("boot", format!("the kernel does not speak: {}{says}", boot.ending), next)
}

fn has_booted(boot: &Boot) -> Check {
    let cpu = boot.record.run().map_or("", |run| &run.cpu_name);
    Check::ok("boot", format!("PVH boot works, on `{cpu}`, {:.1} s in all", boot.elapsed.as_secs_f64()))
}

fn icount(boot: &Boot) -> Check {
    match boot.record.run() {
        Some(run) if run.clock == ClockKind::Instructions && run.deterministic => {
            Check::ok("icount", "the clock counts instructions: events are exact and runs repeat exactly")
        }
        _ => Check::warn(
            "icount",
            "the clock counts time although -icount was asked for: samples are real, shares are not exact",
            "use a QEMU whose TCG supports -icount",
        ),
    }
}

fn stream(boot: &Boot) -> Check {
    let record = &boot.record;
    let (samples, bytes) = (record.samples(), record.bytes());
    if boot.ending != Ending::Completed {
        return Check::fail("stream", boot.ending.to_string(), "see `nmiprof record --duration 0.01 -v`");
    }
    let seen = format!("{samples} samples in {bytes} bytes");
    if record.accounts().identity() == Identity::Holds && samples > 0 {
        return Check::ok("stream", format!("{seen}, and every one is accounted for"));
    }
    let next = "see `nmiprof record --duration 0.01`, then `nmiprof info`";
    Check::fail("stream", format!("{seen}, and not every one is accounted for"), next)
}

/// Judges the serial ports. A host without any can record: a machine of its own, or by a socket.
fn serial(found: io::Result<Vec<Access>>) -> Check {
    let ports = match found {
        Ok(ports) => ports,
        Err(error) => {
            let detail = format!("can't list the serial ports: {error}");
            return Check::warn(
                "serial",
                detail,
                "name the port by `nmiprof record --port DEVICE` all the same",
            );
        }
    };
    let names = |ports: Vec<&Access>| {
        let names: Vec<_> =
            ports.iter().map(|port| clean(&port.device.display().to_string()).into_owned()).collect();
        names.join(", ")
    };
    let (usable, refused): (Vec<_>, Vec<_>) = ports.iter().partition(|port| port.advice.is_none());
    match refused.first().and_then(|port| port.advice.clone()) {
        Some(advice) => Check::warn("serial", format!("no access to {}", names(refused)), advice),
        None if usable.is_empty() => Check::ok("serial", "no serial port here: there is nothing for --port"),
        None => Check::ok("serial", format!("{} can be attached to by --port", names(usable))),
    }
}

fn terminal() -> Check {
    if io::stderr().is_terminal() {
        return Check::ok("terminal", "progress is drawn as one live line");
    }
    let next = "nothing, unless you expected a live line: then let stderr be a terminal";
    Check::warn("terminal", "stderr is no terminal: progress is printed as lines now and then", next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)";
        assert_eq!(version_number(debian), Some((7, 2)));
        assert_eq!(version_number("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(version_number("QEMU emulator version 9.1.50-dirty"), Some((9, 1)));
        for odd in ["", "version", "version x.y", "QEMU 7.2"] {
            assert_eq!(version_number(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn serial_ports_that_this_user_may_not_use_are_a_warning_with_the_way_out() {
        let port = |name: &str, advice: Option<&str>| Access {
            device: name.into(),
            advice: advice.map(str::to_owned),
        };
        assert_eq!(serial(Ok(Vec::new())).status, super::super::Status::Ok);
        let usable = serial(Ok(vec![port("/dev/ttyS0", None)]));
        assert!(
            usable.status == super::super::Status::Ok && usable.detail.contains("/dev/ttyS0"),
            "{usable:?}"
        );
        let mixed = serial(Ok(vec![port("/dev/ttyS0", None), port("/dev/ttyUSB0", Some("join dialout"))]));
        assert_eq!(mixed.status, super::super::Status::Warn);
        assert_eq!(
            (mixed.detail.as_str(), mixed.next.as_deref()),
            ("no access to /dev/ttyUSB0", Some("join dialout"))
        );
    }

    #[test]
    fn a_program_that_is_no_qemu_fails() {
        assert_eq!(qemu(&Program::at("/bin/false")).status, super::super::Status::Fail);
    }
}
