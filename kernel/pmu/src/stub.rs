//! Stub.
#![expect(missing_docs, reason = "stub")]
use crate::{Capabilities, Counter, CounterSet, CounterUnit, Encoding, GeneralProtection, MsrBus};
pub struct Driver<B> {
    bus: B,
    c: Capabilities,
}
#[derive(Clone, Copy)]
pub enum Unmask {
    Late,
    Early,
}
pub struct Handling {
    pub unmask: Unmask,
    pub freeze: bool,
}
impl<B> Driver<B> {
    pub const fn new(bus: B, c: Capabilities, _: Handling) -> Self {
        Self { bus, c }
    }
    pub fn bus(&mut self) -> &mut B {
        &mut self.bus
    }
    pub fn errors(&self) -> u32 {
        0
    }
}
impl<B> CounterUnit for Driver<B> {
    fn capabilities(&self) -> &Capabilities {
        &self.c
    }
    fn reset(&mut self) {}
    fn shut_down(&mut self) {}
    fn program(&mut self, _: Counter, _: Option<Encoding>) {}
    fn load_max(&self, _: Counter) -> u64 {
        0
    }
    fn load(&mut self, _: Counter, _: u64) {}
    fn read(&mut self, _: Counter) -> u64 {
        0
    }
    fn enable(&mut self, _: CounterSet) {}
    fn disable(&mut self, _: CounterSet) {}
    fn begin_pmi(&mut self) {}
    fn take_overflows(&mut self) -> CounterSet {
        CounterSet::EMPTY
    }
    fn recover(&mut self) {}
    fn end_pmi(&mut self) {}
}
pub trait Line {
    fn now(&self) -> u64;
    fn arm(&self, ticks: u32);
    fn remaining(&self) -> u32;
    fn raise(&self);
}
pub struct ClockedModel<L> {
    _l: L,
}
impl<L> ClockedModel<L> {
    pub fn new(_: &'static profiles::Profile, _l: L) -> Self {
        Self { _l }
    }
}
impl<L> MsrBus for ClockedModel<L> {
    fn read(&mut self, _: u32) -> Result<u64, GeneralProtection> {
        Ok(0)
    }
    fn write(&mut self, _: u32, _: u64) -> Result<(), GeneralProtection> {
        Ok(())
    }
    fn read_lvtpc(&mut self) -> u32 {
        0
    }
    fn write_lvtpc(&mut self, _: u32) {}
}
pub fn detect<R: raw_cpuid::CpuIdReader>(
    _: &raw_cpuid::CpuId<R>,
    _: &mut impl MsrBus,
) -> Result<Capabilities, &'static str> {
    Err("no PMU (stub)")
}
pub mod profiles {
    pub struct Profile {
        pub name: &'static str,
    }
    impl raw_cpuid::CpuIdReader for &'static Profile {
        fn cpuid2(&self, _: u32, _: u32) -> raw_cpuid::CpuIdResult {
            raw_cpuid::CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
        }
    }
    pub static INTEL_DEFAULT: &Profile = &Profile { name: "i" };
    pub static AMD_DEFAULT: &Profile = &Profile { name: "a" };
    pub static ALL: &[&Profile] = &[INTEL_DEFAULT];
    pub fn find(name: &str) -> Option<&'static Profile> {
        ALL.iter().copied().find(|p| p.name == name)
    }
}
