//! `nmiprof record` as a process of its own, with this test at the far end of its line.
//!
//! Nothing waits without a limit, and no process outlives its test.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for anything: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        thread::sleep(INTERVAL);
    }
}

/// A directory that commands run in, with a socket in it.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("room") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Listens on the socket `line`.
    pub(crate) fn listen(&self) -> FarEnd {
        let path = self.path("line");
        // One that listened before is gone.
        drop(fs::remove_file(&path));
        let listener = UnixListener::bind(path).expect("room");
        listener.set_nonblocking(true).expect("our own");
        FarEnd { listener }
    }

    /// Starts `nmiprof WORDS`.
    pub(crate) fn start(&self, words: &[&str]) -> Recording {
        let file = |name| fs::File::create(self.path(name)).expect("room");
        let child = Command::new(env!("CARGO_BIN_EXE_nmiprof"))
            .args(words)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("notes"))
            .spawn()
            .expect("it starts");
        Recording { child, start: Instant::now(), out: self.path("out"), notes: self.path("notes") }
    }

    /// Starts to record the socket `line` into the file `data`.
    pub(crate) fn record(&self, words: &[&str]) -> Recording {
        self.start(&[&["record", "-i", "unix:line", "-o", "data"], words].concat())
    }

    /// Runs `nmiprof WORDS` to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Seen {
        self.start(words).wait()
    }

    /// Returns the file `data`.
    pub(crate) fn data(&self) -> Vec<u8> {
        fs::read(self.path("data")).expect("it was recorded")
    }
}

/// The far end of a line, as a socket that listens.
pub(crate) struct FarEnd {
    listener: UnixListener,
}

impl FarEnd {
    /// Waits for the command to connect.
    pub(crate) fn accept(&self) -> UnixStream {
        wait_for("a connection", || match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("our own");
                Some(stream)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        })
    }
}

impl FarEnd {
    /// Waits for the command to connect, for so long; `None` where it does not.
    pub(crate) fn accept_within(&self, limit: Duration) -> Option<UnixStream> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Ok((stream, _)) = self.listener.accept() {
                return Some(stream);
            }
            thread::sleep(INTERVAL);
        }
        None
    }
}

/// Waits for the command to connect by TCP.
pub(crate) fn accept_tcp(listener: &TcpListener) -> std::net::TcpStream {
    listener.set_nonblocking(true).expect("our own");
    let stream = wait_for("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).expect("our own");
    stream
}

/// Sends bytes in pieces that no frame fits in.
pub(crate) fn send(mut line: impl std::io::Write, bytes: &[u8]) {
    for piece in bytes.chunks(53) {
        line.write_all(piece).expect("the command reads");
    }
}

/// A command that runs.
pub(crate) struct Recording {
    child: Child,
    start: Instant,
    out: PathBuf,
    notes: PathBuf,
}

impl Recording {
    /// Returns what it has said so far.
    pub(crate) fn notes(&self) -> String {
        fs::read_to_string(&self.notes).expect("it was made at the start")
    }

    /// Waits until it has said `text`.
    pub(crate) fn wait_for_note(&self, text: &str) {
        wait_for(text, || self.notes().contains(text).then_some(()));
    }

    /// Sends what Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Seen {
        let status = wait_for("the end of the command", || self.child.try_wait().expect("it is ours"));
        Seen {
            status: status.code().expect("no signal"),
            out: fs::read(&self.out).expect("it was made at the start"),
            notes: self.notes(),
            elapsed: self.start.elapsed(),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Harmless where it has ended: it is reaped, and its number not used any more.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) notes: String,
    pub(crate) elapsed: Duration,
}

impl Seen {
    /// Checks the exit status.
    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}", self.notes);
        self
    }

    /// Checks that something was said.
    #[track_caller]
    pub(crate) fn expect_note(self, text: &str) -> Self {
        assert!(self.notes.contains(text), "no {text:?} in {}", self.notes);
        self
    }
}
