//! `nmiprof doctor`: can this host record? Each answer comes with what to do next.
//!
//! It boots the embedded kernel for a moment, because no version number says as much as that. Exit
//! status 1 means that at least one check failed; warnings do not count.

mod checks;

use std::fmt;
use std::io::Write;

use serde::Serialize;

use super::{Error, Outcome};

/// Version of the `--json` form.
const SCHEMA_VERSION: u32 = 1;

/// Flags of `nmiprof doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Examines the host and writes the result to `out`.
///
/// # Errors
/// [`Error::Write`] where `out` can't be written to.
pub fn run(args: &Args, out: &mut dyn Write, _notes: &mut dyn Write) -> Result<Outcome, Error> {
    let checks = checks::all();
    let report = Report {
        schema_version: SCHEMA_VERSION,
        ok: checks.iter().all(|check| check.status != Status::Fail),
        checks,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.ok { Outcome::Good } else { Outcome::Findings })
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    ok: bool,
    checks: Vec<Check>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let status = check.status.name();
            writeln!(f, "{status:<5} {:<9} {}", check.name, check.detail)?;
            if let Some(next) = &check.next {
                writeln!(f, "{:<15} next: {next}", "")?;
            }
        }
        Ok(())
    }
}

/// One question and its answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    /// What to do about it.
    next: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        let (status, detail, next) = (Status::Ok, detail.into(), None);
        Self { name, status, detail, next }
    }

    fn warn(name: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { status: Status::Warn, next: Some(next.into()), ..Self::ok(name, detail) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(name, detail, next) }
    }
}

/// How an answer is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// Not as it should be, but recording works.
    Warn,
    /// Recording does not work.
    Fail,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}
