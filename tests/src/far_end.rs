//! The far end of a serial line: a reader that is as slow, absent or noisy as a test wants.
//!
//! The machine's UART writes to a socket, and QEMU's UART has no room while that is full: what is not read here holds up
//! the kernel, as a real line does. (A socket of this kind holds a few hundred single bytes, 24 ms at 115200 baud.) What is
//! read goes to the file that the harness follows. Everything that a far end did is in its [`Account`], so that a test
//! can prove what it forced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes per second of 115200 baud: eight bits, a start bit and a stop bit each.
pub const BYTES_PER_SECOND: u32 = 11_520;

/// A far end to be.
#[derive(Clone, Debug, Default)]
pub struct FarEnd {
    bytes_per_second: Option<u32>,
    acts: Vec<Act>,
    noise: Option<Noise>,
}

/// Something that the far end does once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Act {
    what: Deed,
    /// From the first byte on.
    after: Duration,
    lasts: Duration,
}

/// What a far end does beside reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It does not read.
    Stall,
    /// It is not there.
    Cut,
}

/// Bits that change on the way.
#[derive(Clone, Copy, Debug)]
struct Noise {
    seed: u64,
    /// One in so many bytes has a wrong bit, on average.
    one_in: u64,
    /// From the first byte on: it is quiet after that.
    until: Duration,
}

impl FarEnd {
    /// Reads as fast as bytes come.
    #[must_use]
    pub fn fast() -> Self {
        Self::default()
    }

    /// Reads as many bytes per second as 115200 baud carry.
    #[must_use]
    pub fn paced() -> Self {
        Self { bytes_per_second: Some(BYTES_PER_SECOND), ..Self::default() }
    }

    /// Does not read for a while, so long after the first byte.
    #[must_use]
    pub fn stalls(self, after: Duration, lasts: Duration) -> Self {
        self.acts(Deed::Stall, after, lasts)
    }

    /// Hangs up for a while, so long after the first byte.
    #[must_use]
    pub fn cuts(self, after: Duration, lasts: Duration) -> Self {
        self.acts(Deed::Cut, after, lasts)
    }

    /// Flips a bit in about one of so many bytes, until so long after the first byte.
    #[must_use]
    pub fn flips(mut self, seed: u64, one_in: u64, until: Duration) -> Self {
        self.noise = Some(Noise { seed, one_in, until });
        self
    }

    /// Returns the QEMU arguments of a machine whose COM1 leads here. It waits for the far end before it starts.
    #[must_use]
    pub fn qemu_args(socket: &Path) -> [String; 4] {
        let chardev = format!("socket,id=far,path={},server=on,wait=on", socket.display());
        ["-chardev", &chardev, "-device", "isa-serial,chardev=far,iobase=0x3f8,irq=4"].map(str::to_owned)
    }

    /// Reads until the machine is gone, into `file`.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, socket: &Path, file: &Path, is_over: &AtomicBool) -> io::Result<Account> {
        let Some(stream) = connect(socket, is_over)? else { return Ok(Account::default()) };
        let file = OpenOptions::new().append(true).create(true).open(file)?;
        let mut reading = Reading::new(self, stream, file);
        while !reading.is_ended {
            reading.act(socket, is_over)?;
            reading.read_on()?;
        }
        reading.account.elapsed = reading.now();
        Ok(reading.account)
    }

    fn acts(mut self, what: Deed, after: Duration, lasts: Duration) -> Self {
        self.acts.push(Act { what, after, lasts });
        self
    }
}

/// What a far end did and saw. Times count from the first byte.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Every byte as it came, before any bit was flipped.
    pub sent: Vec<u8>,
    /// When how many bytes came.
    pub arrivals: Vec<(Duration, usize)>,
    /// What was done, from when to when.
    pub done: Vec<(Deed, Duration, Duration)>,
    /// Offsets of the bytes with a flipped bit.
    pub flipped: Vec<usize>,
    /// How often it connected.
    pub connections: u32,
    /// When the machine was gone.
    pub elapsed: Duration,
}

impl Account {
    /// Returns how many bytes came from one moment up to another.
    #[must_use]
    pub fn bytes_between(&self, from: Duration, to: Duration) -> usize {
        self.arrivals.iter().filter(|(when, _)| (from..to).contains(when)).map(|(_, bytes)| bytes).sum()
    }

    /// Returns the most bytes that came in any one second.
    #[must_use]
    pub fn bytes_per_second_max(&self) -> usize {
        let ends = self.arrivals.iter().map(|(when, _)| *when + Duration::from_nanos(1));
        let second = |end: Duration| self.bytes_between(end.saturating_sub(Duration::from_secs(1)), end);
        ends.map(second).max().unwrap_or(0)
    }

    /// Returns when the last byte came.
    #[must_use]
    pub fn last_byte(&self) -> Duration {
        self.arrivals.last().map_or(Duration::ZERO, |(when, _)| *when)
    }
}

/// A far end at work.
struct Reading {
    stream: UnixStream,
    file: File,
    /// When the first byte came.
    first: Option<Instant>,
    pace: Option<Pace>,
    acts: Vec<Act>,
    noise: Option<(Noise, u64)>,
    account: Account,
    is_ended: bool,
}

impl Reading {
    /// Most bytes that are taken at once.
    const PIECE_BYTES: usize = 64 << 10;
    const TICK: Duration = Duration::from_millis(2);

    fn new(far_end: &FarEnd, stream: UnixStream, file: File) -> Self {
        let mut acts = far_end.acts.clone();
        acts.sort_by_key(|act| act.after);
        acts.reverse();
        Self {
            stream,
            file,
            first: None,
            pace: far_end.bytes_per_second.map(Pace::new),
            acts,
            noise: far_end.noise.map(|noise| (noise, noise.seed)),
            account: Account { connections: 1, ..Account::default() },
            is_ended: false,
        }
    }

    fn now(&self) -> Duration {
        self.first.map_or(Duration::ZERO, |first| first.elapsed())
    }

    /// Does what is due.
    fn act(&mut self, socket: &Path, is_over: &AtomicBool) -> io::Result<()> {
        let Some(act) = self.acts.pop_if(|act| self.first.is_some_and(|first| first.elapsed() >= act.after))
        else {
            return Ok(());
        };
        let start = self.now();
        if act.what == Deed::Cut {
            self.stream.shutdown(std::net::Shutdown::Both)?;
        }
        while self.now() < start + act.lasts && !is_over.load(Ordering::Relaxed) {
            thread::sleep(Self::TICK);
        }
        self.account.done.push((act.what, start, self.now()));
        if act.what == Deed::Cut {
            match connect(socket, is_over)? {
                Some(stream) => self.stream = stream,
                None => self.is_ended = true,
            }
            self.account.connections += 1;
        }
        // What it might have read meanwhile is no credit.
        if let Some(pace) = &mut self.pace {
            pace.restart();
        }
        Ok(())
    }

    fn read_on(&mut self) -> io::Result<()> {
        let allowed = self.pace.as_mut().map_or(Self::PIECE_BYTES, Pace::allowed);
        if allowed == 0 {
            thread::sleep(Self::TICK);
            return Ok(());
        }
        let mut piece = vec![0; allowed];
        match self.stream.read(&mut piece) {
            Ok(0) => self.is_ended = true,
            Ok(len) => self.take(&mut piece[..len])?,
            Err(error) if is_for_want_of_bytes(&error) => {}
            // A machine that ends may leave like this.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.is_ended = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take(&mut self, piece: &mut [u8]) -> io::Result<()> {
        self.first.get_or_insert_with(Instant::now);
        if let Some(pace) = &mut self.pace {
            pace.spend(piece.len());
        }
        self.account.arrivals.push((self.now(), piece.len()));
        let offset = self.account.sent.len();
        self.account.sent.extend_from_slice(piece);
        self.spoil(offset, piece);
        self.file.write_all(piece)
    }

    /// Flips bits of some of the bytes, the first of which is the stream's byte number `offset`.
    fn spoil(&mut self, offset: usize, piece: &mut [u8]) {
        let now = self.now();
        let Some((noise, state)) = self.noise.as_mut().filter(|(noise, _)| now < noise.until) else { return };
        for (index, byte) in piece.iter_mut().enumerate() {
            let random = next_random(state);
            if random.is_multiple_of(noise.one_in) {
                *byte ^= 1 << (random >> 32 & 7);
                self.account.flipped.push(offset + index);
            }
        }
    }
}

/// A bucket that fills with time: one token for each byte that may pass.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u32,
    filled: Instant,
    tokens: f64,
}

impl Pace {
    /// What may pass at once after a pause: enough for this process to lose the processor for so long.
    const BURST_SECONDS: f64 = 0.1;

    fn new(bytes_per_second: u32) -> Self {
        Self { bytes_per_second, filled: Instant::now(), tokens: 0.0 }
    }

    fn restart(&mut self) {
        *self = Self::new(self.bytes_per_second);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a tenth of the rate"
    )]
    fn allowed(&mut self) -> usize {
        let rate = f64::from(self.bytes_per_second);
        let now = Instant::now();
        self.tokens += (now - self.filled).as_secs_f64() * rate;
        self.tokens = self.tokens.min(rate * Self::BURST_SECONDS);
        self.filled = now;
        self.tokens as usize
    }

    fn spend(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }
}

/// Connects as soon as the machine listens; `None` if it is over before that.
fn connect(socket: &Path, is_over: &AtomicBool) -> io::Result<Option<UnixStream>> {
    const PATIENCE: Duration = Duration::from_millis(20);
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(stream) = UnixStream::connect(socket) {
            stream.set_read_timeout(Some(PATIENCE))?;
            return Ok(Some(stream));
        }
        thread::sleep(PATIENCE);
    }
    Ok(None)
}

fn is_for_want_of_bytes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Draws the next number (splitmix64, by Steele, Lea and Flood).
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
