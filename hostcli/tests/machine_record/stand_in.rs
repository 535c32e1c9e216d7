//! A stand-in for QEMU: a shell script that finds the file of the serial line among its arguments, writes
//! a capture there that was made beforehand, and ends as a test wants it to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use nmiprof::capture::writer::{SyntheticSample, Writer, hello};
use nmiprof_wire::{ExitCode, Frame, Log, LogLevel};
use tempfile::TempDir;

/// A directory with a stand-in in it, which is the working directory of every command.
pub(super) struct StandIn {
    directory: TempDir,
}

impl StandIn {
    /// Creates a stand-in that sends `capture` and then does what the shell command `end` says.
    ///
    /// In `end`, `$line` is the file of the serial line.
    pub(super) fn new(capture: &[u8], end: &str) -> Self {
        let stand_in = Self { directory: tempfile::tempdir().expect("room") };
        fs::write(stand_in.path("sent"), capture).expect("room");
        let sent = stand_in.path("sent");
        let script = format!(
            "#!/bin/sh\n\
             for word; do case $word in file,id=line,path=*) line=${{word#*path=}};; esac; done\n\
             /bin/cat '{}' > \"$line\"\n\
             {end}\n",
            sent.display()
        );
        write_program(&stand_in.path("qemu"), &script);
        stand_in
    }

    /// Creates a stand-in that sends a sound capture and ends with success.
    pub(super) fn sound() -> Self {
        Self::new(&capture(), &exit_with(ExitCode::Success))
    }

    /// Returns a path inside the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns `nmiprof WORDS`, to be run inside the directory with the stand-in as QEMU.
    pub(super) fn nmiprof(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nmiprof"));
        command
            .args(words)
            .current_dir(self.directory.path())
            .envs([("NMIPROF_QEMU", self.path("qemu")), ("TMPDIR", self.path("."))]);
        command
    }
}

/// Returns the shell command that ends QEMU as the kernel's exit device does.
pub(super) fn exit_with(code: ExitCode) -> String {
    format!("exit {}", code.process_status())
}

/// Returns a sound capture of a hundred samples with a line of text that would clear the terminal.
pub(super) fn capture() -> Vec<u8> {
    let mut writer = started();
    for time in 0..100 {
        let sample = SyntheticSample { time, ip: 0xffff_ffff_8010_0000, ..SyntheticSample::default() };
        writer.sample(&sample).expect("it fits");
    }
    writer.end().expect("it fits")
}

/// Returns the beginning of a capture.
pub(super) fn started() -> Writer {
    let mut writer = Writer::new(&hello()).expect("it fits");
    let log = Log { time: 0, level: LogLevel::Info, text: "booted\x1b[2J" };
    writer.frame(&Frame::Log(log)).expect("it fits");
    writer
}

/// Reads a file that a test made.
pub(super) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes an executable script.
///
/// The file is written by another process: a handle of this one could be inherited by a child that another
/// test starts at the same moment, and the system refuses to run a file that somebody has open for writing.
pub(super) fn write_program(path: &Path, script: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, script).expect("room");
    let copied = Command::new("/bin/cp").args([&draft, path]).ok();
    copied.expect("room");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}
