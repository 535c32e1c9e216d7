//! User programs in machine-readable reports. Its names are a contract: add, never rename.

use nmiprof_wire::ProcessOutcome;
use serde::Serialize;

use crate::capture::{ProcessInfo, Record};

/// A user program that ran.
#[derive(Debug, Serialize)]
pub(super) struct JsonProcess {
    number: u32,
    name: String,
    build_id: Option<String>,
    /// `exited`, `killed`, `stopped`, or null where it is not known.
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception: Option<Exception>,
}

#[derive(Debug, Serialize)]
struct Exception {
    vector: u8,
    error: u64,
    address: u64,
    rip: u64,
}

/// Returns the user programs of a run.
pub(super) fn json_processes(record: &Record) -> Vec<JsonProcess> {
    record.processes().all().iter().map(JsonProcess::new).collect()
}

impl JsonProcess {
    fn new(process: &ProcessInfo) -> Self {
        let (outcome, status, exception) = match process.outcome {
            None => (None, None, None),
            Some(ProcessOutcome::Exited(status)) => (Some("exited"), Some(status), None),
            Some(ProcessOutcome::Stopped) => (Some("stopped"), None, None),
            Some(ProcessOutcome::Killed { vector, error, address, rip }) => {
                (Some("killed"), None, Some(Exception { vector, error, address, rip }))
            }
        };
        Self {
            number: process.number,
            name: process.name.clone(),
            build_id: process.build_id.map(|id| id.to_string()),
            outcome,
            status,
            exception,
        }
    }
}
