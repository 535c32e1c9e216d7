//! A call chain that is none: what RBP points to looks like a frame of user code, in a kernel without any.

use core::hint::black_box;
use core::ptr;

use crate::arch::frameless;
use crate::info;
use crate::memory::stack::StackRange;
use crate::session::Session;

/// Name of the self-test.
pub const NAME: &str = "frameless";

/// Instructions, nearly all of them at one address.
const TURNS: u64 = 1_000_000;
/// An address that user code could have: as good as any number below the end of the user half.
const LIKE_USER: u64 = 0x40_0000;

/// Samples code whose RBP leads to a made-up caller, which is its last one.
///
/// # Panics
/// If the words are not where a walk reads them.
pub fn run(session: &mut Session) {
    // On the stack: a walk reads no words of a constant, which are elsewhere.
    let words = black_box([0, LIKE_USER]);
    let address = ptr::from_ref(&words).addr() as u64;
    assert!(StackRange::of_thread(address).is_some(), "the walk gets as far as the words");
    session.start();
    frameless::spin(&words, TURNS);
    session.stop();
    info!("frameless: no caller of {:#x} can be known", frameless::loop_address());
}
