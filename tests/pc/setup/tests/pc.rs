//! Sets up what the emulated PC needs to be built, and then tests it.
//!
//! Unicorn is C, compiled by cmake and make, with bindings made by libclang, when the package that needs it is *built*: before
//! any of that package's own code could look for either. So this test stands before it. It is built without them,
//! installs them where that is allowed (as root, or with `NMIPROF_INSTALL=1`), with a printed command, and runs the
//! package's tests by a cargo of its own. Elsewhere it is one counted skip, with the reason and the command;
//! `CI=true` makes that a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

const INSTALL: &str = "apt-get update && apt-get install -y --no-install-recommends cmake make libclang-dev";
const PACKAGE: &str = "nmiprof-pc";

fn main() -> ExitCode {
    if let Err(missing) = set_up() {
        eprintln!("SKIPPED 1: the emulated PC (missing: {missing}; type: {INSTALL})");
        let is_required = env::var_os("CI").is_some_and(|value| value == "true");
        return if is_required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    run_tests()
}

/// Finds what is needed, and installs it where it is missing and that is allowed.
fn set_up() -> Result<(), String> {
    if find_missing().is_none() {
        return Ok(());
    }
    if is_allowed() && exists("apt-get") {
        println!("installing what the emulator's build needs: {INSTALL}");
        let installed =
            Command::new("sh").args(["-c", INSTALL]).env("DEBIAN_FRONTEND", "noninteractive").status();
        if !installed.is_ok_and(|status| status.success()) {
            println!("that failed");
        }
    }
    find_missing().map_or(Ok(()), Err)
}

/// Names what is missing. A C compiler is not asked for: without one, nothing of this was linked.
fn find_missing() -> Option<String> {
    let programs = ["cmake", "make"].map(|program| (program, exists(program)));
    let needed = programs.into_iter().chain([("libclang", has_libclang())]);
    let missing: Vec<_> = needed.filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

fn is_allowed() -> bool {
    let agreed = env::var_os("NMIPROF_INSTALL").is_some_and(|value| value == "1");
    let id = Command::new("id").arg("-u").output();
    agreed || id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn exists(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Tells whether there is a libclang with its headers; the library alone can't parse C that includes any.
fn has_libclang() -> bool {
    let named = env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let places = entries(Path::new("/usr/lib"))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm")));
    let mut places = places.map(|path| path.join("lib")).chain(named);
    places.any(|place| has_library(&place) && place.join("clang").is_dir())
}

fn has_library(place: &Path) -> bool {
    entries(place).iter().filter_map(|path| path.file_name()).any(|name| {
        let name = name.to_string_lossy();
        (name.starts_with("libclang.so") || name.starts_with("libclang-"))
            && name.contains(".so")
            && !name.contains("cpp")
    })
}

fn entries(place: &Path) -> Vec<PathBuf> {
    fs::read_dir(place).map_or_else(|_| Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect())
}

/// Runs the tests of the package, with what was passed to this one.
fn run_tests() -> ExitCode {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--release", "--no-fail-fast", "--package", PACKAGE])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.arg("--").args(env::args_os().skip(1));
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("cargo can't be started: {error}");
            ExitCode::FAILURE
        }
    }
}
