//! One boot image for everything: CD and USB stick, BIOS and UEFI.
//!
//! The image is an ISO 9660 file system with the kernel in it, and GRUB twice: as the program that a BIOS loads from a CD
//! (El Torito) or, by the code in the image's first sector, from a disk; and as the program that UEFI finds in a small
//! FAT file system, which is an El Torito image and a partition at the same time. Both have their few commands built
//! in, so nothing else of GRUB is on the image.
//!
//! The parts are put together here rather than by `grub-mkrescue`, which names the file system by the time of day and
//! carries all of GRUB's modules: this way the same kernel and words give the same bytes, a quarter of a second later
//! and a year later, with the same version of the tools.
//!
//! - [`tools`]: the programs that do the work;
//! - [`grub`]: the commands that GRUB runs.
//!
//! Sources: "GNU GRUB Manual", "Making a GRUB bootable CD-ROM"; the manual page of `xorrisofs`.

pub mod grub;
pub mod tools;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::capture::clean;
use crate::machine::CommandLine;

pub use tools::{Tools, ToolsError};

/// What goes into an image.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The kernel, an ELF file with a Multiboot2 header.
    pub kernel: &'a [u8],
    /// The boot module; empty for none.
    pub module: &'a [u8],
    /// The kernel command line, word by word.
    pub words: &'a [String],
}

/// Date of every file and of the image itself: the time of day is no part of it.
const DATE: &str = "2000010100000000";
/// The same, in seconds since 1970.
const DATE_SECONDS: &str = "946684800";
const LABEL: &str = "NMIPROF";

/// Writes the image to `path`.
///
/// # Errors
/// [`IsoError`].
pub fn write(contents: &Contents<'_>, tools: &Tools, path: &Path) -> Result<(), IsoError> {
    let work = tempfile::tempdir().map_err(IsoError::Work)?;
    let work = Work { directory: work.path(), tools };
    work.lay_out(contents)?;
    work.make_bios_program()?;
    work.make_efi_system()?;
    let image = work.make_image()?;
    let copied = fs::copy(image, path).map(|_| ());
    copied.map_err(|source| IsoError::Output { path: path.to_path_buf(), source })
}

/// A directory in which an image is made.
struct Work<'a> {
    directory: &'a Path,
    tools: &'a Tools,
}

impl Work<'_> {
    const ROOT: &'static str = "root";
    const COMMANDS: &'static str = "grub.cfg";
    const BIOS_PROGRAM: &'static str = "boot/bios.img";
    const EFI_SYSTEM: &'static str = "boot/efi.img";
    const EFI_PROGRAM: &'static str = "bootx64.efi";
    /// Modules for both.
    const MODULES: &'static str = "iso9660 search_fs_file multiboot2 echo boot";

    fn lay_out(&self, contents: &Contents<'_>) -> Result<(), IsoError> {
        let files = grub::Files::of(contents.kernel);
        let has_module = !contents.module.is_empty();
        let commands = grub::commands(&files, contents.words, has_module)?;
        self.write_file(Self::COMMANDS, commands.as_bytes())?;
        self.write_file(&format!("{}{}", Self::ROOT, files.kernel), contents.kernel)?;
        if has_module {
            self.write_file(&format!("{}{}", Self::ROOT, files.module), contents.module)?;
        }
        Ok(())
    }

    fn make_bios_program(&self) -> Result<(), IsoError> {
        let line = self.grub_mkimage("i386-pc-eltorito", &self.in_root(Self::BIOS_PROGRAM));
        self.run(line.args(["biosdisk"]))
    }

    /// Makes a FAT file system with GRUB where UEFI looks for it on removable media.
    fn make_efi_system(&self) -> Result<(), IsoError> {
        let program = self.path(Self::EFI_PROGRAM);
        let drivers = ["part_gpt", "part_msdos", "fat", "efi_gop", "efi_uga"];
        self.run(self.grub_mkimage("x86_64-efi", &program).args(drivers))?;
        let system = self.in_root(Self::EFI_SYSTEM);
        let command = |tool: &Path| CommandLine::new(tool).args(["-i"]).args([&system]);
        // A fixed serial number: the default one is the time of day.
        let format =
            command(&self.tools.mformat).args(["-C", "-f", "2880", "-N", "4e4d4950", "-v", LABEL, "::"]);
        self.run(format)?;
        self.run(command(&self.tools.mmd).args(["::/EFI", "::/EFI/BOOT"]))?;
        self.run(command(&self.tools.mcopy).args([&program]).args(["::/EFI/BOOT/BOOTX64.EFI"]))
    }

    fn make_image(&self) -> Result<PathBuf, IsoError> {
        let image = self.path("image.iso");
        let line = CommandLine::new(&self.tools.xorriso)
            .args(["-as", "mkisofs", "-quiet", "-V", LABEL, "-J", "-r", "-o"])
            .args([&image])
            .args([format!("--modification-date={DATE}")])
            .args(["--set_all_file_dates", DATE])
            .args(["-b", Self::BIOS_PROGRAM, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
            .args(["--grub2-boot-info", "--grub2-mbr"])
            .args([self.tools.grub.join("i386-pc/boot_hybrid.img")])
            .args(["--efi-boot", Self::EFI_SYSTEM, "-efi-boot-part", "--efi-boot-image"])
            .args(["--protective-msdos-label"])
            .args([self.path(Self::ROOT)]);
        self.run(line)?;
        Ok(image)
    }

    fn grub_mkimage(&self, format: &str, output: &Path) -> CommandLine {
        let directory = self.tools.grub.join(format.trim_end_matches("-eltorito"));
        CommandLine::new(&self.tools.grub_mkimage)
            .args(["-d"])
            .args([directory])
            .args(["-O", format, "-p", "/boot/grub", "-c"])
            .args([self.path(Self::COMMANDS)])
            .args(["-o"])
            .args([output])
            .args(Self::MODULES.split(' '))
    }

    fn run(&self, line: CommandLine) -> Result<(), IsoError> {
        let failed = |why: String| IsoError::Tool { command: line.to_string(), why };
        let output = line
            .command()
            .env("SOURCE_DATE_EPOCH", DATE_SECONDS)
            .env("TZ", "UTC")
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().map(clean).collect();
        Err(failed(format!("{}: {}", output.status, lines.join("\n"))))
    }

    fn write_file(&self, name: &str, content: &[u8]) -> Result<(), IsoError> {
        let path = self.path(name);
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        parent.and_then(|()| fs::write(&path, content)).map_err(IsoError::Work)
    }

    fn in_root(&self, name: &str) -> PathBuf {
        self.path(Self::ROOT).join(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// The tools are not there.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// A word can't be handed to the kernel by a boot loader.
    #[error(
        "the word `{0}` can't go through a boot loader: it has a quote, a backslash or a control character"
    )]
    Word(String),
    /// A tool failed.
    #[error("`{command}` failed ({why}); update the tool that it names, then try again")]
    Tool {
        /// What was run.
        command: String,
        /// What happened.
        why: String,
    },
    /// There is no place for the parts.
    #[error("can't make temporary files: {0}; make room, or name another directory by TMPDIR")]
    Work(io::Error),
    /// The image can't be written.
    #[error("can't write {path}: {source}; check the place and the space left, or name another one")]
    Output {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
