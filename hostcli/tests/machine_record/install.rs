//! A missing QEMU is installed where that is allowed, and named where it is not.
//!
//! Method: `PATH` leads to a directory of stand-ins only: a package manager that "installs" the stand-in
//! for QEMU, and a `sudo` that does as it is told. Nothing of the real system is in reach.

use std::fs;
use std::os::unix::fs::symlink;

use assert_cmd::Command;

use super::stand_in::{StandIn, write_program};

/// Makes the directory that `PATH` leads to, with a package manager that does what `script` says.
fn programs(stand_in: &StandIn, script: &str) {
    let directory = stand_in.path("bin");
    fs::create_dir(&directory).expect("room");
    symlink("/bin/sh", directory.join("sh")).expect("room");
    write_program(&directory.join("sudo"), "#!/bin/sh\nexec \"$@\"\n");
    write_program(&directory.join("apt-get"), &format!("#!/bin/sh\n{script}\n"));
}

/// Returns `nmiprof WORDS` that finds no QEMU but what is in that directory.
fn nmiprof(stand_in: &StandIn, words: &[&str]) -> Command {
    let mut command = stand_in.nmiprof(words);
    command.env_remove("NMIPROF_QEMU").env("PATH", stand_in.path("bin"));
    command
}

fn notes(command: &mut Command, status: i32) -> String {
    let output = command.output().expect("it runs");
    let notes = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(status), "{notes}");
    notes
}

#[test]
fn the_command_is_printed_and_run_where_the_user_agreed() {
    let stand_in = StandIn::sound();
    let qemu = stand_in.path("bin/qemu-system-x86_64");
    let install = format!("echo \"$@\"; /bin/cp '{}' '{}'", stand_in.path("qemu").display(), qemu.display());
    programs(&stand_in, &install);
    let command = nmiprof(&stand_in, &["record", "--yes", "-o", "-"]).output().expect("it runs");
    let notes = String::from_utf8(command.stderr).expect("UTF-8");
    assert_eq!(command.status.code(), Some(0), "{notes}");
    assert!(notes.contains("apt-get update && "), "{notes}");
    assert!(notes.contains("apt-get install -y qemu-system-x86\n"), "{notes}");
    assert_eq!(command.stdout, super::capture(), "the package manager's words are not in the product");
}

#[test]
fn an_install_that_fails_is_an_error_that_names_the_command() {
    let stand_in = StandIn::sound();
    programs(&stand_in, "exit 100");
    let notes = notes(&mut nmiprof(&stand_in, &["record", "--yes"]), 2);
    assert!(notes.contains("qemu-system-x86` failed (exit status: 100); run it by hand"), "{notes}");
}

#[test]
fn a_system_without_a_known_package_manager_is_told_what_is_missing() {
    let stand_in = StandIn::sound();
    programs(&stand_in, "exit 0");
    fs::remove_file(stand_in.path("bin/apt-get")).expect("our own file");
    let notes = notes(&mut nmiprof(&stand_in, &["record", "--yes"]), 2);
    assert!(notes.contains("there is no qemu-system-x86_64 here; install QEMU"), "{notes}");
}

#[test]
fn doctor_installs_nothing_and_names_the_command() {
    let stand_in = StandIn::sound();
    programs(&stand_in, "echo called >&2");
    let output = nmiprof(&stand_in, &["doctor"]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("apt-get install -y qemu-system-x86"), "{text}");
    assert!(output.stderr.is_empty(), "nothing was run");
}
