//! The line: frames out, whole, as fast as it takes them.
//!
//! [`send`] puts a frame into a queue in memory and hands to the UART what that has room for. On an emulator whose line
//! is a file that is all of it, at once. On a real one the rest leaves by the UART's interrupt and by [`pump`], which
//! the session calls between two steps.
//!
//! A line that is slow, stalled or unplugged must cost samples and nothing else, and each of them counted. So:
//! - while workloads run, nobody waits. The drain asks [`has_room`] before it takes samples out of a ring: what the line
//!   can't carry stays there, until the ring is full and the NMI counts a drop. The rest of the queue is for frames that
//!   are no samples; one that finds no room is dropped, and counted.
//! - before and after that, [`send`] and [`wait_for_room`] wait for as long as bytes move, and give a line up that stands
//!   still for some seconds.
//!
//! # Context
//! Thread only: there is a lock. The interrupt never waits for it: where it is taken, it leaves its work to the holder.
//! NMIs never write to the line; a fatal report goes around this.

mod stillness;

use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nmiprof_wire::{
    EVENTS_MAX, Frame, FrameQueue, LINE_BYTES_MAX, Line, LineCounters, Log, LogLevel, Options, QueueError,
};

use crate::arch::apic::LocalApic;
use crate::arch::serial::{self, Port, PortError, Setup};
use crate::arch::{cpu, pic};
use crate::info;
use crate::lock::Mutex;
use crate::text::FixedText;
use stillness::Stillness;

/// Memory for what waits.
const QUEUE_BYTES: usize = 64 << 10;
/// While more than this waits, no sample is added: it keeps a line of 115200 baud busy for 0.7 seconds, and what is behind
/// it is not much older.
const BEHIND_BYTES: usize = 8 << 10;
/// Most frames that one record may make necessary: a block of every event, and definitions of call chains (those that
/// wait, and those of its own chain).
const FRAMES_PER_RECORD_MAX: usize = EVENTS_MAX + 4;

const _: () = assert!(
    BEHIND_BYTES + FRAMES_PER_RECORD_MAX * LINE_BYTES_MAX + 4 * LINE_BYTES_MAX <= QUEUE_BYTES,
    "what one record makes necessary has room, and so has what the session sends each second"
);
/// Bursts that one interrupt sends: enough for a line, and the interrupted code goes on where the far end takes all.
const INTERRUPT_BURSTS_MAX: u32 = 4;

static STREAM: Mutex<Stream> = Mutex::new(Stream::new());

/// Bytes in the queue. Written by the holder of the lock.
///
/// Relaxed: who reads it decides whether to look, or how much to send; under the lock it is found out anew.
static WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);

/// An interrupt found the lock taken. Set by the interrupt, cleared by whoever does its work.
///
/// Relaxed: the lock orders what it is about.
static IS_MISSED: AtomicBool = AtomicBool::new(false);

/// Nobody may wait for the line now: workloads run. Written by the session's thread.
///
/// Relaxed: a system call that reads the old value waits, or does not, for one frame.
static IS_BUSY: AtomicBool = AtomicBool::new(false);

struct Stream {
    port: Option<Port>,
    queue: FrameQueue<QUEUE_BYTES>,
    stillness: Stillness,
    counters: LineCounters,
    /// The UART may raise its interrupt.
    may_interrupt: bool,
    /// And does, as soon as there is room.
    interrupts: bool,
}

/// Opens the line, at the rate that the command line asks for.
///
/// # Errors
/// [`PortError`] where there is none: then there is nobody to profile for.
pub fn open(options: &Options<'_>) -> Result<(), PortError> {
    let setup = Setup::of(options);
    let (port, fifo) = Port::open(setup)?;
    with_stream(|stream| {
        stream.port = Some(port);
        // Ends whatever firmware has left on the line.
        stream.queue.push_zero();
    });
    let flow = if setup.rts_cts { ", RTS/CTS" } else { "" };
    let (baud, divisor) = (setup.rate.baud, setup.rate.divisor);
    info!("line: COM1 (0x3f8), {fifo}, {baud} baud (divisor {divisor}){flow}");
    Ok(())
}

/// Lets the UART interrupt this CPU where somebody live is at the far end, and says how fast the clock is.
///
/// # Context
/// Thread, on the CPU that booted, with the handler in place.
pub fn begin(options: &Options<'_>, apic: LocalApic, clock_hz: u64) {
    stillness::set_clock(clock_hz);
    // A file takes everything at once: no interrupt, whose moment would not repeat.
    if options.line == Line::Live {
        apic.enable_legacy_interrupts();
        pic::unmask(serial::LINE);
        with_stream(|stream| stream.may_interrupt = true);
    }
}

/// Says whether workloads run: then nobody waits for the line.
pub fn set_busy(is_busy: bool) {
    IS_BUSY.store(is_busy, Ordering::Relaxed);
}

/// Sends one frame: at once, or behind what waits.
pub fn send(frame: &Frame<'_>) {
    while with_stream(|stream| stream.offer(frame)).is_err() {
        spin_loop();
    }
}

/// Sends what the line counted.
pub fn send_counters() {
    let counters = with_stream(|stream| stream.counters());
    send(&Frame::Line(counters));
}

/// Tells whether whatever one more record makes necessary has room behind what waits.
pub fn has_room() -> bool {
    WAITING_BYTES.load(Ordering::Relaxed) <= BEHIND_BYTES
}

/// Waits until there is room for a record; `false` where nobody may wait, or the line stands still.
pub fn wait_for_room() -> bool {
    while !has_room() {
        if !with_stream(|stream| stream.is_worth_waiting()) {
            return false;
        }
        spin_loop();
    }
    true
}

/// Hands to the UART what it has room for, if anything waits.
pub fn pump() {
    if WAITING_BYTES.load(Ordering::Relaxed) > 0 {
        with_stream(|_| ());
    }
}

/// Reacts to the UART's interrupt.
///
/// # Context
/// The interrupt.
pub fn interrupt() {
    match STREAM.try_lock() {
        Some(mut stream) => stream.take_interrupt(),
        None => IS_MISSED.store(true, Ordering::Relaxed),
    }
}

/// Waits until everything has left the UART, or the line stands still.
pub fn flush() {
    while with_stream(|stream| !stream.queue.is_empty() && stream.is_worth_waiting()) {
        spin_loop();
    }
    let stream = STREAM.lock();
    if let Some(port) = stream.port.as_ref().filter(|_| stream.queue.is_empty()) {
        wait_until_idle(port);
    }
}

/// Sends what waits, for a report that comes after it; where somebody has the line, that is lost.
///
/// # Context
/// Any, the NMI included: nothing else runs after this.
pub fn rescue() {
    if let Some(mut stream) = STREAM.try_lock() {
        while stream.port.is_some() && !stream.queue.is_empty() && !stream.stillness.is_hopeless() {
            stream.pump(u32::MAX);
        }
    }
}

/// Sets the port up again and sends bytes past the queue and the lock, for as long as they move.
///
/// # Context
/// Any, the NMI included: nothing else runs after this.
pub fn send_last(mut port: Port, mut bytes: &[u8]) {
    // Half a character would be lost if the rate were set before.
    wait_until_idle(&port);
    port.set_up();
    let mut stillness = Stillness::new();
    while !bytes.is_empty() && !stillness.is_hopeless() {
        let count = port.write(bytes);
        bytes = bytes.get(count..).unwrap_or_default();
        stillness.look(count > 0, !bytes.is_empty());
    }
    wait_until_idle(&port);
}

/// Waits until the last byte has left, unless it does not.
fn wait_until_idle(port: &Port) {
    let mut stillness = Stillness::new();
    while !port.is_idle() && !stillness.is_hopeless() {
        stillness.look(false, true);
        spin_loop();
    }
}

/// Sends one line of text.
pub fn log(level: LogLevel, text: fmt::Arguments<'_>) {
    let text = FixedText::<480>::format(text);
    send(&Frame::Log(Log { time: cpu::timestamp(), level, text: text.as_str() }));
}

/// Does something with the stream, and sends what there is room for then.
fn with_stream<R>(act: impl FnOnce(&mut Stream) -> R) -> R {
    let result = {
        let mut stream = STREAM.lock();
        let result = act(&mut stream);
        stream.pump(u32::MAX);
        result
    };
    // Looked at when the lock is open again, so none is left: an interrupt after this finds it open.
    while IS_MISSED.swap(false, Ordering::Relaxed) {
        STREAM.lock().take_interrupt();
    }
    result
}

/// The line is behind, and may get on: ask again.
struct Behind;

impl Stream {
    const fn new() -> Self {
        Self {
            port: None,
            queue: FrameQueue::new(),
            stillness: Stillness::new(),
            counters: LineCounters {
                time: 0,
                bytes: 0,
                interrupt_bytes: 0,
                stalls: 0,
                stall_ticks_max: 0,
                frames_dropped: 0,
            },
            may_interrupt: false,
            interrupts: false,
        }
    }

    /// Puts a frame into the queue, or drops and counts it where it is not worth waiting for room.
    fn offer(&mut self, frame: &Frame<'_>) -> Result<(), Behind> {
        match self.queue.push(frame) {
            Ok(()) => Ok(()),
            Err(QueueError::Full) if self.is_worth_waiting() => Err(Behind),
            Err(QueueError::Full | QueueError::TooLong) => {
                self.counters.frames_dropped += 1;
                Ok(())
            }
        }
    }

    fn is_worth_waiting(&self) -> bool {
        !IS_BUSY.load(Ordering::Relaxed) && self.port.is_some() && !self.stillness.is_hopeless()
    }

    /// Hands bytes to the UART while it has room, in so many bursts at most.
    fn pump(&mut self, bursts_max: u32) {
        let Some(port) = &mut self.port else { return };
        let before = self.queue.len();
        for _ in 0..bursts_max {
            let count = port.write(self.queue.front());
            if count == 0 {
                break;
            }
            self.queue.remove(count);
        }
        let (left, waits) = (before - self.queue.len(), !self.queue.is_empty());
        self.counters.bytes += left as u64;
        self.stillness.look(left > 0, waits);
        if self.interrupts != (waits && self.may_interrupt) {
            self.interrupts = !self.interrupts;
            port.set_interrupts(self.interrupts);
        }
        WAITING_BYTES.store(self.queue.len(), Ordering::Relaxed);
    }

    fn take_interrupt(&mut self) {
        if let Some(port) = &mut self.port {
            port.acknowledge();
        }
        let before = self.counters.bytes;
        self.pump(INTERRUPT_BURSTS_MAX);
        self.counters.interrupt_bytes += self.counters.bytes - before;
    }

    fn counters(&self) -> LineCounters {
        let Stillness { stalls, ticks_max, .. } = self.stillness;
        LineCounters { time: cpu::timestamp(), stalls, stall_ticks_max: ticks_max, ..self.counters }
    }
}

/// Sends one warning, formatted.
#[macro_export]
macro_rules! warning {
    ($($text:tt)*) => {
        $crate::stream::log(nmiprof_wire::LogLevel::Warning, format_args!($($text)*))
    };
}

/// Sends one line of information, formatted.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => {
        $crate::stream::log(nmiprof_wire::LogLevel::Info, format_args!($($text)*))
    };
}
