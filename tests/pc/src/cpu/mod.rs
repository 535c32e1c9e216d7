//! What the machine adds to the engine's instructions.

pub mod cpuid;
pub mod decode;
pub mod delivery;
pub mod msr;
pub mod nmi;
pub mod special;
