//! Tests of the keeper with programs that are everywhere.

use super::*;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

#[test]
fn the_status_arrives_when_the_child_ends() {
    let (_, exited, keeper) = start_kept(shell("exit 7")).expect("sh starts");
    let status = exited.recv_timeout(LONG).expect("it ends").expect("it is waited for");
    assert_eq!(Exit::from(status), Exit::Status(7));
    keeper.join().expect("the keeper ends with it");
}

#[test]
fn a_killed_child_ends_by_a_signal() {
    let (child, exited, _) = start_kept(shell("exec sleep 60")).expect("sh starts");
    let start = Instant::now();
    lock(&child).kill().expect("it runs");
    let status = exited.recv_timeout(LONG).expect("it ends").expect("it is waited for");
    assert_eq!(Exit::from(status), Exit::Signal(9));
    assert!(start.elapsed() < LONG);
}

#[test]
fn killing_after_the_end_hits_nobody() {
    let (child, exited, _) = start_kept(shell("exit 0")).expect("sh starts");
    exited.recv_timeout(LONG).expect("it ends").expect("it is waited for");
    lock(&child).kill().expect("nothing to do");
}

#[test]
fn a_missing_program_is_told_from_one_that_may_not_run() {
    let missing = Program::at("/nowhere/qemu");
    let error = start_kept(Command::new(missing.path())).expect_err("not there");
    assert!(matches!(StartError::of(&missing, error), StartError::NoProgram(_)));
    let directory = Program::at("/");
    let error = start_kept(Command::new(directory.path())).expect_err("a directory");
    assert!(matches!(StartError::of(&directory, error), StartError::Spawn { .. }));
}

#[test]
#[cfg(target_os = "linux")]
fn the_child_outlives_the_thread_that_asked_for_it_but_not_the_keeper() {
    let ask = thread::spawn(|| start_kept(shell("exec sleep 60")).expect("sh starts"));
    let (child, exited, _) = ask.join().expect("no panic");
    let early = exited.recv_timeout(Duration::from_millis(300));
    assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "still running: {early:?}");
    lock(&child).kill().expect("it runs");
    exited.recv_timeout(LONG).expect("it ends").expect("it is waited for");
}
