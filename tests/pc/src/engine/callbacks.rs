//! What Unicorn calls while instructions run: each finds the guest, asks it, and stops the engine where the guest says so.

use std::ffi::{c_int, c_void};

use unicorn_engine::{uc_emu_stop, uc_engine};

use super::{Flow, Guest, Registers, check};

/// What a callback gets.
pub(super) struct Hooked<G> {
    pub(super) registers: Registers,
    pub(super) guest: *mut G,
}

pub(super) extern "C" fn on_code<G: Guest>(uc: *mut uc_engine, address: u64, _: u32, data: *mut c_void) {
    // SAFETY: the engine made `data` of this type, and leaked it; one callback runs at a time.
    let hooked = unsafe { &mut *data.cast::<Hooked<G>>() };
    // SAFETY: the guest lives as long as the engine, and nobody has a reference to it while it runs.
    let guest = unsafe { &mut *hooked.guest };
    if guest.boundary(&mut hooked.registers, address) == Flow::Stop {
        stop(uc);
    }
}

pub(super) extern "C" fn on_interrupt<G: Guest>(uc: *mut uc_engine, vector: u32, data: *mut c_void) {
    guest::<G>(data).raised(u8::try_from(vector).unwrap_or(u8::MAX));
    stop(uc);
}

pub(super) extern "C" fn on_invalid<G: Guest>(uc: *mut uc_engine, data: *mut c_void) -> bool {
    const INVALID_OPCODE: u8 = 6;
    guest::<G>(data).raised(INVALID_OPCODE);
    stop(uc);
    true
}

pub(super) extern "C" fn on_in<G: Guest>(
    _: *mut uc_engine,
    port: u32,
    bytes: c_int,
    data: *mut c_void,
) -> u32 {
    guest::<G>(data).port_read(low_word(port), width(bytes))
}

pub(super) extern "C" fn on_out<G: Guest>(
    uc: *mut uc_engine,
    port: u32,
    bytes: c_int,
    value: u32,
    data: *mut c_void,
) {
    if guest::<G>(data).port_write(low_word(port), width(bytes), value) == Flow::Stop {
        stop(uc);
    }
}

pub(super) extern "C" fn on_memory_read<G: Guest, const BASE: u64>(
    _: *mut uc_engine,
    offset: u64,
    _: u32,
    data: *mut c_void,
) -> u64 {
    // SAFETY: `data` is the guest, and nobody has a reference to it while it runs.
    let guest = unsafe { &mut *data.cast::<G>() };
    u64::from(guest.memory_read(BASE + offset))
}

pub(super) extern "C" fn on_memory_write<G: Guest, const BASE: u64>(
    _: *mut uc_engine,
    offset: u64,
    _: u32,
    value: u64,
    data: *mut c_void,
) {
    // SAFETY: as for `on_memory_read`.
    let guest = unsafe { &mut *data.cast::<G>() };
    guest.memory_write(BASE + offset, u32::try_from(value & 0xffff_ffff).unwrap_or(0));
}

fn guest<'a, G: Guest>(data: *mut c_void) -> &'a mut G {
    // SAFETY: the engine made `data` of this type, and leaked it.
    let hooked = unsafe { &mut *data.cast::<Hooked<G>>() };
    // SAFETY: the guest lives as long as the engine, and nobody else has a reference to it while it runs.
    unsafe { &mut *hooked.guest }
}

fn stop(uc: *mut uc_engine) {
    // SAFETY: called from a callback of this engine.
    check(unsafe { uc_emu_stop(uc) });
}

fn low_word(value: u32) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or(0)
}

fn width(bytes: c_int) -> u8 {
    u8::try_from(bytes).unwrap_or(4)
}
