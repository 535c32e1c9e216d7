//! No QEMU outlives the command that started it, however that command ends.
//!
//! Method: the stand-in for QEMU writes its process number into a file and then sleeps; the command is
//! killed in the hardest way, and the process has to be gone.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::stand_in::{StandIn, started};

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer; there is no event for what other processes do.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn start(stand_in: &StandIn) -> Child {
    Command::new(env!("CARGO_BIN_EXE_nmiprof"))
        .args(["record", "-q", "--timeout", "60"])
        .current_dir(stand_in.path("."))
        .envs([("NMIPROF_QEMU", stand_in.path("qemu")), ("TMPDIR", stand_in.path("."))])
        .stdin(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[test]
#[cfg(target_os = "linux")]
fn qemu_ends_with_a_command_that_is_killed() {
    let stand_in =
        StandIn::new(&started().into_bytes(), "echo $$ > pid.part; mv pid.part pid; exec sleep 120");
    let mut command = start(&stand_in);
    let pid = wait_for("the stand-in", || std::fs::read_to_string(stand_in.path("pid")).ok());
    let process = format!("/proc/{}/cmdline", pid.trim());
    let is_asleep = || std::fs::read(Path::new(&process)).is_ok_and(|words| words.starts_with(b"sleep\0"));
    wait_for("its sleep", || is_asleep().then_some(()));
    command.kill().expect("it runs");
    command.wait().expect("it is ours");
    wait_for("the end of the stand-in", || (!is_asleep()).then_some(()));
}
