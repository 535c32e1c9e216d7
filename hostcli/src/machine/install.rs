//! Installs other programs by the system's package manager where that is allowed: QEMU, and what makes a boot image.
//!
//! Allowed means: this process is root, or the user agreed, by `--yes` or by answering on a terminal. The
//! command is printed before it runs. Everywhere else the error names the same command.

use std::io::{self, IsTerminal as _, Write};
use std::process::{Command, Stdio};

use super::program::{Program, ProgramError, find_in_path};

/// What this program needs of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The machine.
    Qemu,
    /// The tools that make a boot image.
    IsoTools,
}

impl Wanted {
    const fn name(self) -> &'static str {
        match self {
            Self::Qemu => Program::NAME,
            Self::IsoTools => "what makes a boot image",
        }
    }

    const fn packagers(self) -> &'static [Packager] {
        match self {
            Self::Qemu => &Packager::OF_QEMU,
            Self::IsoTools => &Packager::OF_ISO_TOOLS,
        }
    }
}

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
        Err(ProgramError::Missing(Some(packager))) if packager.install_if_allowed(consent, notes)? => {
            Program::find()
        }
        found => found,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A package manager, and how it installs one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packager {
    program: &'static str,
    wanted: Wanted,
    command: &'static str,
    needs_root: bool,
}

impl Packager {
    const OF_QEMU: [Self; 4] = [
        Self::of_root("apt-get", Wanted::Qemu, "apt-get update && apt-get install -y qemu-system-x86"),
        Self::of_root("dnf", Wanted::Qemu, "dnf install -y qemu-system-x86-core"),
        Self::of_root("pacman", Wanted::Qemu, "pacman -S --noconfirm qemu-system-x86"),
        Self { program: "brew", wanted: Wanted::Qemu, command: "brew install qemu", needs_root: false },
    ];
    const OF_ISO_TOOLS: [Self; 3] = [
        Self::of_root(
            "apt-get",
            Wanted::IsoTools,
            "apt-get update && apt-get install -y --no-install-recommends grub-common grub-pc-bin \
             grub-efi-amd64-bin xorriso mtools",
        ),
        Self::of_root(
            "dnf",
            Wanted::IsoTools,
            "dnf install -y grub2-tools-minimal grub2-pc-modules grub2-efi-x64-modules xorriso mtools",
        ),
        Self::of_root("pacman", Wanted::IsoTools, "pacman -S --noconfirm grub libisoburn mtools"),
    ];

    const fn of_root(program: &'static str, wanted: Wanted, command: &'static str) -> Self {
        Self { program, wanted, command, needs_root: true }
    }

    /// Finds the package manager of this system.
    #[must_use]
    pub fn find(wanted: Wanted) -> Option<Self> {
        wanted.packagers().iter().copied().find(|known| find_in_path(known.program).is_some())
    }

    /// Returns the shell command that installs what is wanted.
    #[must_use]
    pub fn command(self) -> String {
        if self.needs_root && !is_root() {
            let steps: Vec<_> = self.command.split(" && ").map(|step| format!("sudo {step}")).collect();
            return steps.join(" && ");
        }
        self.command.to_owned()
    }

    /// Runs the command if that is allowed, and tells whether it was.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn install_if_allowed(self, consent: Consent, notes: &mut dyn Write) -> Result<bool, InstallError> {
        let allowed = self.is_allowed(consent, notes)?;
        if allowed {
            self.install(notes)?;
        }
        Ok(allowed)
    }

    fn is_allowed(self, consent: Consent, notes: &mut dyn Write) -> Result<bool, InstallError> {
        if consent == Consent::Given || is_root() {
            return Ok(true);
        }
        if consent == Consent::NotGiven || !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(false);
        }
        self.ask(notes).map_err(|source| InstallError::Ask { what: self.wanted.name(), source })
    }

    fn ask(self, notes: &mut dyn Write) -> io::Result<bool> {
        writeln!(notes, "{} is missing. This installs it:\n  {}", self.wanted.name(), self.command())?;
        write!(notes, "Run that now? [y/N] ")?;
        notes.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Runs the command; what it prints goes to stderr, because stdout is for products.
    fn install(self, notes: &mut dyn Write) -> Result<(), InstallError> {
        let command = self.command();
        let failed = |why: String| InstallError::Failed { command: command.clone(), why };
        writeln!(notes, "nmiprof: {} is missing, running: {command}", self.wanted.name())
            .map_err(|error| failed(error.to_string()))?;
        let status = Command::new("sh")
            .args(["-c", &command])
            .stdout(Stdio::from(io::stderr()))
            .status()
            .map_err(|error| failed(error.to_string()))?;
        status.success().then_some(()).ok_or_else(|| failed(status.to_string()))
    }
}

/// Why what is missing was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The package manager did not do its work.
    #[error("`{command}` failed ({why}); run it by hand, then try again")]
    Failed {
        /// What was run.
        command: String,
        /// What happened.
        why: String,
    },
    /// The question to the user could not be asked.
    #[error("can't ask whether to install {what}: {source}; answer by --yes")]
    Ask {
        /// What is missing.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_raised_to_root_where_the_user_is_not() {
        for packager in Packager::OF_QEMU.into_iter().chain(Packager::OF_ISO_TOOLS) {
            let command = packager.command();
            let raised = command.matches("sudo ").count();
            let steps = command.split(" && ").count();
            let expected = if packager.needs_root && !is_root() { steps } else { 0 };
            assert_eq!(raised, expected, "{command}");
        }
    }
}
