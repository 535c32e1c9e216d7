//! Installs QEMU by the system's package manager where that is allowed.
//!
//! Allowed means: this process is root, or the user agreed, by `--yes` or by answering on a terminal. The
//! command is printed before it runs. Everywhere else the error names the same command.

use std::io::{self, IsTerminal as _, Write};
use std::process::{Command, Stdio};

use super::program::{Program, ProgramError, find_in_path};

/// Whether the user lets this program install packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Agreed beforehand (`--yes`).
    Given,
    /// Ask, where there is a terminal to ask on.
    Ask,
    /// Not agreed, and there is nobody to ask.
    NotGiven,
}

impl Consent {
    /// Returns the consent that a `--yes` flag stands for.
    #[must_use]
    pub const fn from_yes(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Ask }
    }
}

/// Finds QEMU, and installs it where it is missing and that is allowed.
///
/// A program that the environment names is never replaced by another one.
///
/// # Errors
/// [`ProgramError`] where there is still none.
pub fn find_or_install(consent: Consent, notes: &mut dyn Write) -> Result<Program, ProgramError> {
    match Program::find() {
        Err(ProgramError::Missing(Some(packager))) => {
            if !is_allowed(packager, consent, notes)? {
                return Err(ProgramError::Missing(Some(packager)));
            }
            packager.install(notes)?;
            Program::find()
        }
        found => found,
    }
}

fn is_allowed(packager: Packager, consent: Consent, notes: &mut dyn Write) -> Result<bool, ProgramError> {
    if consent == Consent::Given || is_root() {
        return Ok(true);
    }
    if consent == Consent::NotGiven || !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(false);
    }
    ask(packager, notes).map_err(ProgramError::Ask)
}

fn ask(packager: Packager, notes: &mut dyn Write) -> io::Result<bool> {
    writeln!(notes, "{} is missing. This installs it:\n  {}", Program::NAME, packager.command())?;
    write!(notes, "Run that now? [y/N] ")?;
    notes.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A package manager that has QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packager {
    program: &'static str,
    command: &'static str,
    needs_root: bool,
}

impl Packager {
    const KNOWN: [Self; 4] = [
        Self {
            program: "apt-get",
            command: "apt-get update && apt-get install -y qemu-system-x86",
            needs_root: true,
        },
        Self { program: "dnf", command: "dnf install -y qemu-system-x86-core", needs_root: true },
        Self { program: "pacman", command: "pacman -S --noconfirm qemu-system-x86", needs_root: true },
        Self { program: "brew", command: "brew install qemu", needs_root: false },
    ];

    /// Finds the package manager of this system.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::KNOWN.into_iter().find(|known| find_in_path(known.program).is_some())
    }

    /// Returns the shell command that installs QEMU.
    #[must_use]
    pub fn command(self) -> String {
        if self.needs_root && !is_root() {
            let steps: Vec<_> = self.command.split(" && ").map(|step| format!("sudo {step}")).collect();
            return steps.join(" && ");
        }
        self.command.to_owned()
    }

    /// Runs the command; what it prints goes to stderr, because stdout is for products.
    fn install(self, notes: &mut dyn Write) -> Result<(), ProgramError> {
        let command = self.command();
        let failed = |why: String| ProgramError::Install { command: command.clone(), why };
        writeln!(notes, "nmiprof: {} is missing, running: {command}", Program::NAME)
            .map_err(|error| failed(error.to_string()))?;
        let status = Command::new("sh")
            .args(["-c", &command])
            .stdout(Stdio::from(io::stderr()))
            .status()
            .map_err(|error| failed(error.to_string()))?;
        status.success().then_some(()).ok_or_else(|| failed(status.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_raised_to_root_where_the_user_is_not() {
        for packager in Packager::KNOWN {
            let command = packager.command();
            let raised = command.matches("sudo ").count();
            let steps = command.split(" && ").count();
            let expected = if packager.needs_root && !is_root() { steps } else { 0 };
            assert_eq!(raised, expected, "{command}");
        }
    }
}
