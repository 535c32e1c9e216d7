//! NMIs from outside, as fast as QEMU's monitor takes them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::iter;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nmiprof::images::Image;

use crate::{Boot, Run};

/// Commands sent before their answers are read.
const AT_A_TIME: usize = 8;
const LIMIT: Duration = Duration::from_secs(180);

/// Injects NMIs for as long as the monitor is there; returns how many it confirmed.
fn inject(socket: &Path) -> u64 {
    let Ok(stream) = UnixStream::connect(socket) else { return 0 };
    let Ok(mut commands) = stream.try_clone() else { return 0 };
    let mut answers = BufReader::new(stream).lines().map_while(Result::ok);
    let mut ask = |command: &str, times: usize| {
        let line = format!("{{\"execute\":\"{command}\"}}\n");
        commands.write_all(line.repeat(times).as_bytes()).ok()?;
        let confirmed = answers.by_ref().filter(|answer| answer.contains("\"return\"")).take(times).count();
        (confirmed == times).then_some(times as u64)
    };
    if ask("qmp_capabilities", 1).is_none() {
        return 0;
    }
    // Several at a time: the monitor's answer is slower than the command.
    iter::from_fn(|| ask("inject-nmi", AT_A_TIME)).sum()
}

/// Boots, and injects from the moment at which the kernel samples. (Before it has an interrupt table, an NMI
/// would end the machine, as on any PC.) Returns how many were confirmed, too.
///
/// # Panics
/// Where there is no place for a temporary file.
#[must_use = "a skipped test has to return"]
pub fn run_with_injection(words: &str) -> (Run, u64) {
    let directory = tempfile::tempdir().expect("room for a socket");
    let socket = directory.path().join("monitor");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let (signal, sampling) = mpsc::channel();
    let injector = thread::spawn(move || sampling.recv().map_or(0, |()| inject(&socket)));
    let boot = Boot::image(Image::Main).append(words).qemu_arg("-qmp").qemu_arg(&monitor);
    let run = boot.limit(LIMIT).signal_sampling(signal).run();
    (run, injector.join().expect("the injector does not panic"))
}
