//! Goal: the binary serves its serial line on a unix socket, so that the host command can attach to it.
//!
//! Method: start it, connect, read to the end, and decode.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nmiprof::capture::{CaptureError, Identity, Stream};

/// Looks for the socket, ten a second.
const TRIES: u32 = 300;

#[test]
fn what_attaches_to_the_socket_gets_the_whole_run() {
    let path = std::env::temp_dir().join(format!("nmiprof-pc-{}.sock", std::process::id()));
    let words = "line=live duration_ns=10000000 period=5003 workload=sort";
    let mut child = Command::new(env!("CARGO_BIN_EXE_nmiprof-pc"))
        .args([
            "--profile",
            "zen4",
            "--limit",
            "1000000000",
            "--iret-fault",
            "keeps",
            "--append",
            words,
            "--unix",
        ])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut line = (0..TRIES).find_map(|_| {
        sleep(Duration::from_millis(100));
        UnixStream::connect(&path).ok()
    });
    let mut bytes = Vec::new();
    line.as_mut().expect("it listens").read_to_end(&mut bytes).expect("the line can be read");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("it ends").success(), "{said}");
    let mut stream = Stream::new("the socket");
    stream.push(&bytes, |_| Ok::<(), CaptureError>(())).expect("a stream of this version");
    let record = stream.finish();
    assert_eq!(record.accounts().identity(), Identity::Holds, "{said}");
    assert!(record.samples() > 50, "{} samples", record.samples());
    println!("{said}");
}
