//! A minimal client of the GDB remote protocol: breakpoints, steps, registers, memory.
//!
//! - [`packet`]: bytes to packets and back;
//! - [`client`]: one conversation with QEMU's stub, over a Unix socket and with a time limit.
//!
//! What comes from the stub is hostile input: a packet has a greatest length, a conversation has a
//! greatest duration, and what is not understood is an error.

pub mod client;
pub mod packet;

pub use client::{Client, GdbError, Registers, Stopped};
