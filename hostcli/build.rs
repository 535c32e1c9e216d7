//! Builds the kernel for bare metal, twice, and the example programs, and tells the library where they are.
//!
//! | what | feature | variable |
//! |---|---|---|
//! | the kernel that `record` boots | none | `NMIPROF_IMAGE_MAIN` |
//! | the kernel with mutants and triggers for tests | `selftest` | `NMIPROF_IMAGE_SELFTEST` |
//! | a user program | none | `NMIPROF_PROGRAM_` and its name |
//!
//! The compiler needs its `x86_64-unknown-none` library for that. Where it is missing, this script adds
//! it through rustup if it may: as root, or where the user agreed by `NMIPROF_INSTALL=1`. A build script
//! has no terminal to ask on, so in every other case the build ends with the command to type.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fmt, fs, io};

const TARGET: &str = "x86_64-unknown-none";
const PACKAGE: &str = "nmiprof-kernel";
const PROGRAMS_PACKAGE: &str = "nmiprof-programs";
/// User programs, by name.
const PROGRAMS: [&str; 4] = ["sieve", "tree", "split", "hostile"];
const PROFILE: &str = "kernel";
/// The variable by which a user agrees that the build installs what it misses.
const CONSENT: &str = "NMIPROF_INSTALL";
/// The kernel is linked to fixed addresses, and its call chains are walked by frame pointers.
const RUST_FLAGS: [&str; 2] = ["-Crelocation-model=static", "-Cforce-frame-pointers=yes"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Error> {
    let host = Host::from_env()?;
    declare_inputs(&host.workspace);
    ensure_target(&host)?;
    build_image(&host, "MAIN", &[])?;
    build_image(&host, "SELFTEST", &["--features", "selftest"])?;
    build_programs(&host)?;
    println!("cargo::rustc-env=NMIPROF_RUSTC={}", rustc_version(&host)?);
    Ok(())
}

/// What cargo tells this script.
struct Host {
    cargo: OsString,
    rustc: OsString,
    workspace: PathBuf,
    out: PathBuf,
}

impl Host {
    fn from_env() -> Result<Self, Error> {
        let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
        Ok(Self {
            cargo: variable("CARGO")?,
            rustc: variable("RUSTC")?,
            workspace: manifest.parent().unwrap_or(&manifest).to_path_buf(),
            out: PathBuf::from(variable("OUT_DIR")?),
        })
    }
}

fn variable(name: &'static str) -> Result<OsString, Error> {
    env::var_os(name).ok_or(Error::NotUnderCargo(name))
}

fn declare_inputs(workspace: &Path) {
    for input in ["kernel", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-env-changed={CONSENT}");
}

/// Makes sure that the compiler has a library for the target.
fn ensure_target(host: &Host) -> Result<(), Error> {
    if has_target(host)? {
        return Ok(());
    }
    let rustup = Command::new("rustup").arg("--version").output();
    if !rustup.is_ok_and(|rustup| rustup.status.success()) {
        return Err(Error::NoRustup(host.rustc.clone()));
    }
    if !may_install() {
        return Err(Error::NoTarget);
    }
    println!("cargo::warning=the kernel needs a library for {TARGET}: running `{}`", add_target_text());
    let added = Command::new("rustup").args(ADD_TARGET).output().map_err(Error::tool("rustup"))?;
    if !added.status.success() || !has_target(host)? {
        return Err(Error::AddTarget(String::from_utf8_lossy(&added.stderr).into_owned()));
    }
    Ok(())
}

const ADD_TARGET: [&str; 3] = ["target", "add", TARGET];

fn add_target_text() -> String {
    format!("rustup {}", ADD_TARGET.join(" "))
}

fn has_target(host: &Host) -> Result<bool, Error> {
    let args = ["--print", "target-libdir", "--target", TARGET];
    let printed = output_text(&host.rustc, &args)?;
    Ok(Path::new(printed.trim()).is_dir())
}

fn may_install() -> bool {
    env::var_os(CONSENT).is_some_and(|agreed| agreed == "1") || is_root()
}

fn is_root() -> bool {
    output_text(OsStr::new("id"), &["-u"]).is_ok_and(|uid| uid.trim() == "0")
}

fn rustc_version(host: &Host) -> Result<String, Error> {
    Ok(output_text(&host.rustc, &["--version"])?.trim().to_owned())
}

/// Builds one image, copies it out of the way of the next build, and exports its path.
fn build_image(host: &Host, name: &str, features: &[&str]) -> Result<(), Error> {
    let target_dir = host.out.join("kernel");
    run_cargo(host, &target_dir, PACKAGE, features)?;
    let built = target_dir.join(TARGET).join(PROFILE).join(PACKAGE);
    let kept = host.out.join(format!("{}.elf", name.to_lowercase()));
    fs::copy(&built, &kept).map_err(|error| Error::Copy(built, error))?;
    println!("cargo::rustc-env=NMIPROF_IMAGE_{name}={}", kept.display());
    Ok(())
}

/// Builds all programs and exports their paths.
fn build_programs(host: &Host) -> Result<(), Error> {
    let target_dir = host.out.join("kernel");
    run_cargo(host, &target_dir, PROGRAMS_PACKAGE, &[])?;
    for name in PROGRAMS {
        let built = target_dir.join(TARGET).join(PROFILE).join(name);
        println!("cargo::rustc-env=NMIPROF_PROGRAM_{}={}", name.to_uppercase(), built.display());
    }
    Ok(())
}

fn run_cargo(host: &Host, target_dir: &Path, package: &str, args: &[&str]) -> Result<(), Error> {
    let mut cargo = kernel_cargo(host, target_dir);
    let status = cargo.args(["--package", package]).args(args).status().map_err(Error::tool("cargo"))?;
    if status.success() { Ok(()) } else { Err(Error::KernelBuild) }
}

/// Returns the cargo command that builds for the kernel's target, with nothing of the outer build in its environment.
///
/// Its target directory is its own: the outer one is locked for as long as this script runs.
fn kernel_cargo(host: &Host, target_dir: &Path) -> Command {
    let mut cargo = Command::new(&host.cargo);
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_outer_build(name)) {
        cargo.env_remove(name);
    }
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(host).join(OsStr::new("\u{1f}")))
        .env("RUSTC", &host.rustc)
        .current_dir(&host.workspace)
        .args(["build", "--locked", "--profile", PROFILE])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir);
    cargo
}

/// Returns the compiler's flags. The paths of this machine are mapped to fixed names: the image, and so its
/// build-id and what is measured on it, does not depend on where it was built.
fn rust_flags(host: &Host) -> Vec<OsString> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let mapped = [(Some(&host.workspace), "/nmiprof"), (home.as_ref(), "/cargo")];
    let remaps = mapped.into_iter().filter_map(|(path, name)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(path?);
        flag.push(format!("={name}"));
        Some(flag)
    });
    RUST_FLAGS.iter().map(OsString::from).chain(remaps).collect()
}

/// Tells whether a variable would carry settings of the outer build into the kernel's.
///
/// Settings of where packages come from are not among them.
fn is_of_outer_build(name: &OsStr) -> bool {
    const STRIPPED: [&str; 5] = ["CARGO_", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC", "CLIPPY"];
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    let name = name.to_string_lossy();
    let starts_with = |prefix: &&str| name.starts_with(prefix);
    STRIPPED.iter().any(starts_with) && !KEPT.iter().any(starts_with)
}

fn output_text(program: &OsStr, args: &[&str]) -> Result<String, Error> {
    let failed = Error::tool(&program.to_string_lossy());
    let output = Command::new(program).args(args).output().map_err(failed)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Why there is no kernel image, and what to do about it.
enum Error {
    NotUnderCargo(&'static str),
    Tool(String, io::Error),
    NoRustup(OsString),
    NoTarget,
    AddTarget(String),
    KernelBuild,
    Copy(PathBuf, io::Error),
}

impl Error {
    fn tool(name: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let name = name.to_owned();
        move |error| Self::Tool(name, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let add = add_target_text();
        match self {
            Self::NotUnderCargo(name) => write!(f, "{name} is not set: `cargo build` runs this script"),
            Self::Tool(name, error) => write!(f, "`{name}` can't be run: {error}"),
            Self::NoRustup(rustc) => write!(
                f,
                "`{}` has no library for {TARGET} and there is no rustup to add it; install Rust by rustup \
                 (https://rustup.rs) and run `{add}`, or install that library from where this compiler \
                 came from",
                rustc.display()
            ),
            Self::NoTarget => write!(
                f,
                "the kernel needs a library for {TARGET}; run `{add}` and build again (or build with \
                 {CONSENT}=1, which runs it)"
            ),
            Self::AddTarget(why) => write!(f, "`{add}` failed; run it by hand, then build again\n{why}"),
            Self::KernelBuild => {
                f.write_str("the kernel, or a program for it, did not build; the errors are above")
            }
            Self::Copy(path, error) => write!(f, "{} can't be copied: {error}", path.display()),
        }
    }
}
