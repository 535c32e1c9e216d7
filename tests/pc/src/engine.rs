//! The instruction engine: Unicorn behind a safe interface. All unsafe code of this package is here and in `ram.rs`.
//!
//! The hard part is who owns the guest while instructions run. Unicorn calls back into Rust from inside
//! `uc_emu_start`, so whatever the callbacks change must not be borrowed by the caller of `start`. The engine
//! therefore owns its [`Guest`] behind a raw pointer, and hands out references only while nothing runs. A callback
//! never changes registers: it stops the engine, and the machine acts between two runs. That costs about half a
//! microsecond, and there is exactly one place where the state of the CPU changes hands.
//!
//! Unicorn's register interface can neither set the privilege level nor read an exception's error code. Its saved
//! contexts have both, as a copy of the emulator's own structure; [`layout`] says where, for one version of Unicorn,
//! and [`Engine::new`] checks what can be checked.
#![expect(unsafe_code, reason = "calls a C library")]

mod callbacks;
mod layout;

use std::ffi::{c_int, c_void};
use std::ptr;

use unicorn_engine::{
    Arch, ControlType, HookType, Mode, Prot, RegisterX86, X86Insn, uc_close, uc_context, uc_context_alloc,
    uc_context_free, uc_ctl, uc_emu_start, uc_engine, uc_error, uc_hook_add, uc_mem_map_ptr, uc_mmio_map,
    uc_open, uc_reg_read, uc_reg_write,
};

use crate::devices::hpet::HPET_BASE;
use crate::devices::ioapic::IO_APIC_BASE;
use crate::ram::Ram;
use callbacks::Hooked;
pub use layout::{CpuState, Segment};

/// What a callback wants to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The instruction is executed.
    Go,
    /// The engine stops before the instruction.
    Stop,
}

/// What surrounds the CPU, and watches it.
pub trait Guest {
    /// Looks at the boundary before the instruction at this address.
    fn boundary(&mut self, registers: &mut Registers, address: u64) -> Flow;
    /// Takes note of an exception; the engine then stops.
    fn raised(&mut self, vector: u8);
    /// Answers a read of an I/O port.
    fn port_read(&mut self, port: u16, bytes: u8) -> u32;
    /// Takes a write of an I/O port; may stop the engine after the instruction.
    fn port_write(&mut self, port: u16, bytes: u8, value: u32) -> Flow;
    /// Answers a read of a device's register in memory.
    fn memory_read(&mut self, address: u64) -> u32;
    /// Takes a write of a device's register in memory.
    fn memory_write(&mut self, address: u64, value: u32);
}

/// Physical address of the local APIC's page.
pub const APIC_BASE: u64 = 0xfee0_0000;
const GENERAL_REGISTERS: usize = 16;

/// The registers, for a callback that looks at a boundary.
#[derive(Debug)]
pub struct Registers {
    uc: *mut uc_engine,
    context: *mut uc_context,
    ram: *const Ram,
}

impl Registers {
    /// Reads the general registers, in the order of their numbers.
    pub fn general(&mut self) -> [u64; GENERAL_REGISTERS] {
        // SAFETY: the context is this engine's, and large enough; only its head is filled.
        unsafe { layout::save_head(self.uc, self.context, size_of::<[u64; GENERAL_REGISTERS]>()) }
    }

    /// Returns RAM.
    #[must_use]
    pub fn ram(&self) -> &Ram {
        // SAFETY: the engine keeps RAM where it is, and nobody writes to it by way of a reference while it runs.
        unsafe { &*self.ram }
    }

    /// Reads what delivery needs.
    pub fn state(&mut self) -> CpuState {
        // SAFETY: as for `general`.
        unsafe { layout::save_head(self.uc, self.context, size_of::<CpuState>()) }
    }
}

/// Unicorn, RAM and the guest around them.
#[derive(Debug)]
pub struct Engine<G: Guest> {
    registers: Registers,
    context_bytes: usize,
    ram: *mut Ram,
    guest: *mut G,
}

impl<G: Guest> Engine<G> {
    /// Creates a CPU with this RAM and this guest around it.
    ///
    /// # Panics
    /// Where Unicorn refuses, or is not the version whose layout this package knows.
    pub fn new(ram: Ram, guest: G) -> Self {
        let mut uc = ptr::null_mut();
        // SAFETY: `uc` is a place for the result.
        check(unsafe { uc_open(Arch::X86, Mode::MODE_64, &raw mut uc) });
        // SAFETY: the control takes one argument, the type of TLB; 0 is that of the CPU, which walks page tables.
        check(unsafe { uc_ctl(uc, control_write(ControlType::TLB_TYPE, 1), 0 as c_int) });
        let mut context = ptr::null_mut();
        // SAFETY: `context` is a place for the result.
        check(unsafe { uc_context_alloc(uc, &raw mut context) });
        // SAFETY: the context was just allocated.
        let context_bytes = unsafe { layout::context_bytes(context) };
        let guest = Box::into_raw(Box::new(guest));
        let ram = Box::into_raw(Box::new(ram));
        let mut engine = Self { registers: Registers { uc, context, ram }, context_bytes, ram, guest };
        engine.map();
        engine.hook();
        engine.check_layout();
        engine
    }

    /// Returns the guest.
    pub fn guest(&self) -> &G {
        // SAFETY: nothing runs while `self` is borrowed, and the pointer is that of a box.
        unsafe { &*self.guest }
    }

    /// Returns the guest, to be changed.
    pub fn guest_mut(&mut self) -> &mut G {
        // SAFETY: as for `guest`.
        unsafe { &mut *self.guest }
    }

    /// Returns RAM.
    pub fn ram(&self) -> &Ram {
        // SAFETY: the pointer is that of a box, and nothing runs while `self` is borrowed.
        unsafe { &*self.ram }
    }

    /// Returns RAM, to be written.
    pub fn ram_mut(&mut self) -> &mut Ram {
        // SAFETY: as for `ram`.
        unsafe { &mut *self.ram }
    }

    /// Executes from an address on, until a callback stops it.
    ///
    /// # Errors
    /// What Unicorn says where it can't go on.
    pub fn start(&mut self, address: u64) -> Result<(), uc_error> {
        const NEVER: u64 = 0;
        // SAFETY: callbacks use the guest by its pointer alone; no reference to it is alive here.
        match unsafe { uc_emu_start(self.registers.uc, address, NEVER, 0, 0) } {
            uc_error::OK => Ok(()),
            error => Err(error),
        }
    }

    /// Reads the registers that delivery needs.
    pub fn state(&mut self) -> CpuState {
        self.registers.state()
    }

    /// Writes the registers back.
    pub fn set_state(&mut self, state: &CpuState) {
        // SAFETY: the context is this engine's.
        unsafe { layout::restore_head(self.registers.uc, self.registers.context, state) };
    }

    /// Reads RFLAGS; what [`CpuState`] has of it is without the arithmetic flags.
    pub fn rflags(&mut self) -> u64 {
        let mut value = 0_u64;
        let register = RegisterX86::RFLAGS as c_int;
        // SAFETY: the register has 64 bits.
        check(unsafe { uc_reg_read(self.registers.uc, register, (&raw mut value).cast()) });
        value
    }

    /// Writes RFLAGS.
    pub fn set_rflags(&mut self, value: u64) {
        let register = RegisterX86::RFLAGS as c_int;
        // SAFETY: the register has 64 bits.
        check(unsafe { uc_reg_write(self.registers.uc, register, (&raw const value).cast()) });
    }

    /// Writes a control register, with all that the CPU does then.
    pub fn set_control(&mut self, register: RegisterX86, value: u64) {
        // SAFETY: control registers have 64 bits.
        check(unsafe { uc_reg_write(self.registers.uc, register as c_int, (&raw const value).cast()) });
    }

    /// Reads a control or debug register.
    pub fn control(&mut self, register: RegisterX86) -> u64 {
        let mut value = 0_u64;
        // SAFETY: such registers have 64 bits.
        check(unsafe { uc_reg_read(self.registers.uc, register as c_int, (&raw mut value).cast()) });
        value
    }

    /// Writes a model-specific register that the engine itself acts by.
    pub fn set_msr(&mut self, number: u32, value: u64) {
        let msr = layout::Msr { number, value };
        let register = RegisterX86::MSR as c_int;
        // SAFETY: the structure is what Unicorn expects for this register.
        check(unsafe { uc_reg_write(self.registers.uc, register, (&raw const msr).cast()) });
    }

    /// Reads a model-specific register of the engine.
    pub fn msr(&mut self, number: u32) -> u64 {
        let mut msr = layout::Msr { number, value: 0 };
        let register = RegisterX86::MSR as c_int;
        // SAFETY: as for `set_msr`.
        check(unsafe { uc_reg_read(self.registers.uc, register, (&raw mut msr).cast()) });
        msr.value
    }

    /// Takes the exception that was raised last: its error code, and whether it was an INT instruction.
    ///
    /// The engine remembers it, to make a double fault of the next one, until it has delivered it; here the machine
    /// delivers, so the engine is told that it is done.
    ///
    /// # Panics
    /// Never: the state is longer than the offsets.
    pub fn take_exception(&mut self) -> (u32, bool) {
        const NONE: [u8; 4] = (-1_i32).to_le_bytes();
        let mut all = self.save();
        let word = |offset: usize| u32::from_le_bytes(all[offset..offset + 4].try_into().expect("4 bytes"));
        let taken = (word(layout::ERROR_CODE), word(layout::EXCEPTION_IS_INT) != 0);
        all[layout::OLD_EXCEPTION..layout::OLD_EXCEPTION + 4].copy_from_slice(&NONE);
        self.restore(&all);
        taken
    }

    /// Copies the whole state of the CPU.
    pub fn save(&mut self) -> Vec<u8> {
        // SAFETY: the context is this engine's, and has so many bytes.
        unsafe { layout::save_all(self.registers.uc, self.registers.context, self.context_bytes) }
    }

    /// Puts back what `save` copied.
    ///
    /// # Panics
    /// If that is no state of this version of Unicorn.
    pub fn restore(&mut self, saved: &[u8]) {
        assert_eq!(saved.len(), self.context_bytes, "a state of this version of Unicorn");
        // SAFETY: as for `save`.
        unsafe { layout::restore_all(self.registers.uc, self.registers.context, saved) };
    }

    /// Forgets translations of addresses: page tables were changed from outside.
    pub fn flush_translations(&mut self) {
        // SAFETY: the control takes no argument.
        check(unsafe { uc_ctl(self.registers.uc, control_write(ControlType::TLB_FLUSH, 0)) });
    }

    fn map(&mut self) {
        let uc = self.registers.uc;
        let (memory, bytes) = (self.ram_mut().as_mut_ptr().cast::<c_void>(), self.ram().len());
        // SAFETY: RAM is aligned to pages, and lives as long as the engine.
        check(unsafe { uc_mem_map_ptr(uc, 0, bytes, Prot::ALL.0, memory) });
        self.map_devices::<APIC_BASE>();
        self.map_devices::<IO_APIC_BASE>();
        self.map_devices::<HPET_BASE>();
    }

    /// Maps a page of registers. There may be none: who answers is the guest's to know.
    fn map_devices<const BASE: u64>(&mut self) {
        const PAGE_BYTES: u64 = 0x1000;
        let (read, write) = (callbacks::on_memory_read::<G, BASE>, callbacks::on_memory_write::<G, BASE>);
        let data = self.guest.cast::<c_void>();
        // SAFETY: the callbacks get the guest that they are made for.
        check(unsafe {
            uc_mmio_map(self.registers.uc, BASE, PAGE_BYTES, Some(read), data, Some(write), data)
        });
    }

    fn hook(&mut self) {
        self.add(HookType::CODE, callbacks::on_code::<G> as *mut c_void, None);
        self.add(HookType::INTR, callbacks::on_interrupt::<G> as *mut c_void, None);
        self.add(HookType::INSN_INVALID, callbacks::on_invalid::<G> as *mut c_void, None);
        self.add(HookType::INSN, callbacks::on_in::<G> as *mut c_void, Some(X86Insn::IN));
        self.add(HookType::INSN, callbacks::on_out::<G> as *mut c_void, Some(X86Insn::OUT));
    }

    fn add(&mut self, kind: HookType, callback: *mut c_void, instruction: Option<X86Insn>) {
        const ALL: (u64, u64) = (1, 0);
        // Callbacks at boundaries need the registers too, which point to the guest's engine.
        let data = ptr::from_mut(Box::leak(Box::new(Hooked {
            registers: self.hook_registers(),
            guest: self.guest,
        })));
        let mut handle = 0;
        let instruction = instruction.map_or(0, |instruction| instruction as c_int);
        // SAFETY: the callback has the signature of its kind, and gets what `Hooked` says.
        check(unsafe {
            uc_hook_add(
                self.registers.uc,
                &raw mut handle,
                c_int::try_from(kind.0).expect("small"),
                callback,
                data.cast(),
                ALL.0,
                ALL.1,
                instruction,
            )
        });
    }

    fn hook_registers(&self) -> Registers {
        Registers { uc: self.registers.uc, context: self.registers.context, ram: self.ram }
    }

    /// Checks that the layout is the one that this package knows.
    fn check_layout(&mut self) {
        let before = self.state();
        let marks: Vec<u64> =
            (0..GENERAL_REGISTERS as u64).map(|number| 0x1122_3344_5566_0000 + number).collect();
        let mut marked = before;
        marked.general.copy_from_slice(&marks);
        marked.rip = 0x7788;
        self.set_state(&marked);
        for (register, value) in
            [(RegisterX86::RAX, marks[0]), (RegisterX86::R15, marks[15]), (RegisterX86::RIP, 0x7788)]
        {
            let mut read = 0_u64;
            // SAFETY: the registers have 64 bits.
            check(unsafe { uc_reg_read(self.registers.uc, register as c_int, (&raw mut read).cast()) });
            assert_eq!(read, value, "the layout of Unicorn's state has changed");
        }
        self.set_control(RegisterX86::CR2, 0x99aa);
        assert_eq!(self.state().control[2], 0x99aa, "the layout of Unicorn's state has changed");
        self.set_state(&before);
    }
}

impl<G: Guest> Drop for Engine<G> {
    fn drop(&mut self) {
        // SAFETY: the context is this engine's, and used no more.
        unsafe { uc_context_free(self.registers.context) };
        // SAFETY: nothing runs.
        unsafe { uc_close(self.registers.uc) };
        // SAFETY: the pointer is that of a box, and its last user is gone.
        drop(unsafe { Box::from_raw(self.guest) });
        // SAFETY: as for the guest; the engine that had it mapped is closed.
        drop(unsafe { Box::from_raw(self.ram) });
    }
}

/// Returns the control code that writes, with so many arguments.
fn control_write(kind: ControlType, arguments: u32) -> ControlType {
    ControlType(kind.0 | arguments << 26 | 1 << 30)
}

fn check(error: uc_error) {
    assert_eq!(error, uc_error::OK, "Unicorn refuses: {error}");
}
