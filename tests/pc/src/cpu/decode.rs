//! Decoding: what the machine has to know of an instruction before it is executed.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory,
};

use crate::events::cost;
use crate::events::sites::OPERANDS_MAX;

/// Instructions that need the machine's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any other.
    #[default]
    Plain,
    /// May be interrupted between its iterations.
    Repeated,
    /// Ends an interrupt, and unmasks NMIs.
    InterruptReturn,
    /// Goes to user code.
    SystemReturn,
    /// Inhibits interrupts until the next instruction is done.
    Shadow,
    /// Throws a line out of the caches.
    Flush,
    /// The machine executes it in place of the engine.
    Special(Special),
}

/// Instructions that the machine executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// CPUID.
    CpuId,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// RDPMC.
    ReadCounter,
    /// RDTSC.
    ReadTime,
    /// RDTSCP.
    ReadTimeAndCpu,
    /// HLT.
    Halt,
    /// SYSCALL.
    SystemCall,
}

/// A memory operand: base and index by number of the register, 16 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operand {
    base: u8,
    index: u8,
    scale: u8,
    displacement: u64,
}

const NO_REGISTER: u8 = 16;

/// What is known of an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes; 0 for what was not decoded yet.
    pub len: u8,
    /// What it costs by itself.
    pub cycles: u8,
    /// Whether it is a branch.
    pub is_branch: bool,
    /// Whether the machine stops before it.
    pub is_label: bool,
    /// Words that it reads.
    pub loads: u8,
    /// Words that it writes.
    pub stores: u8,
    /// Memory operands.
    pub operands: [Operand; OPERANDS_MAX],
    /// How many of them there are.
    pub operand_count: u8,
    /// What it needs.
    pub kind: Kind,
}

impl Operand {
    /// Returns the address, segment bases left out.
    #[inline]
    #[must_use]
    pub fn address(&self, general: &[u64; 16]) -> u64 {
        let value = |number: u8| general.get(usize::from(number)).copied().unwrap_or(0);
        let index = value(self.index).wrapping_mul(u64::from(self.scale));
        value(self.base).wrapping_add(index).wrapping_add(self.displacement)
    }

    fn of(memory: &UsedMemory) -> Self {
        let scale = u8::try_from(memory.scale()).unwrap_or(1);
        Self {
            base: number(memory.base()),
            index: number(memory.index()),
            scale,
            displacement: memory.displacement(),
        }
    }
}

/// Decodes the bytes at an address, in code of 64 or 32 bits.
#[must_use]
pub fn decode(bytes: &[u8], address: u64, bitness: u32) -> Decoded {
    let mut decoder = Decoder::with_ip(bitness, bytes, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    let mut decoded = Decoded {
        len: u8::try_from(instruction.len()).unwrap_or(1),
        cycles: cost::of(instruction.mnemonic()),
        is_branch: is_branch(instruction.flow_control()),
        kind: kind(&instruction),
        ..Decoded::default()
    };
    for memory in info.used_memory() {
        decoded.add(memory);
    }
    if decoded.kind == Kind::Flush {
        (decoded.loads, decoded.stores) = (0, 0);
    }
    decoded
}

impl Decoded {
    fn add(&mut self, memory: &UsedMemory) {
        let (reads, writes) = match memory.access() {
            OpAccess::Read | OpAccess::CondRead => (1, 0),
            OpAccess::Write | OpAccess::CondWrite => (0, 1),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (1, 1),
            OpAccess::None | OpAccess::NoMemAccess => return,
        };
        self.loads += reads;
        self.stores += writes;
        if let Some(place) = self.operands.get_mut(usize::from(self.operand_count)) {
            *place = Operand::of(memory);
            self.operand_count += 1;
        }
    }
}

fn kind(instruction: &iced_x86::Instruction) -> Kind {
    match instruction.mnemonic() {
        Mnemonic::Cpuid => Kind::Special(Special::CpuId),
        Mnemonic::Rdmsr => Kind::Special(Special::ReadMsr),
        Mnemonic::Wrmsr => Kind::Special(Special::WriteMsr),
        Mnemonic::Rdpmc => Kind::Special(Special::ReadCounter),
        Mnemonic::Rdtsc => Kind::Special(Special::ReadTime),
        Mnemonic::Rdtscp => Kind::Special(Special::ReadTimeAndCpu),
        Mnemonic::Hlt => Kind::Special(Special::Halt),
        Mnemonic::Syscall => Kind::Special(Special::SystemCall),
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => Kind::InterruptReturn,
        Mnemonic::Sysret | Mnemonic::Sysretq => Kind::SystemReturn,
        Mnemonic::Sti => Kind::Shadow,
        Mnemonic::Clflush | Mnemonic::Clflushopt => Kind::Flush,
        Mnemonic::Mov | Mnemonic::Pop if instruction.op0_register() == Register::SS => Kind::Shadow,
        _ if instruction.has_rep_prefix() || instruction.has_repne_prefix() => Kind::Repeated,
        _ => Kind::Plain,
    }
}

fn is_branch(flow: FlowControl) -> bool {
    matches!(
        flow,
        FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::ConditionalBranch
            | FlowControl::Return
            | FlowControl::Call
            | FlowControl::IndirectCall
    )
}

/// Returns the number of a register, as in an instruction's encoding.
fn number(register: Register) -> u8 {
    if register.is_gpr() {
        u8::try_from(register.full_register().number()).unwrap_or(NO_REGISTER)
    } else {
        NO_REGISTER
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, decode};

    #[test]
    fn a_flush_names_a_line_and_reads_nothing() {
        let flush = decode(&[0x0f, 0xae, 0x38], 0, 64);
        assert_eq!((flush.kind, flush.operand_count, flush.loads, flush.stores), (Kind::Flush, 1, 0, 0));
        let mut general = [0; 16];
        general[0] = 0x1234;
        assert_eq!(flush.operands[0].address(&general), 0x1234);
        let load = decode(&[0x8b, 0x38], 0, 64);
        assert_eq!((load.kind, load.operand_count, load.loads, load.stores), (Kind::Plain, 1, 1, 0));
    }
}
