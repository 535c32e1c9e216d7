//! What is known of each CPU, and its clock's offset from that of CPU 0.

use nmiprof_wire::CpuInfo;

/// Everything that was said of the CPUs.
#[derive(Clone, Debug, Default)]
pub struct Cpus(Vec<Option<CpuInfo>>);

impl Cpus {
    /// Takes what is said of a CPU below `cpus_max`; refuses another one, and what contradicts what was said before.
    pub(super) fn take(&mut self, info: &CpuInfo, cpus_max: u16) -> bool {
        if info.cpu >= cpus_max {
            return false;
        }
        let index = usize::from(info.cpu);
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        let known = self.0[index].get_or_insert(*info);
        known == info
    }

    /// Returns what was said of a CPU.
    #[must_use]
    pub fn get(&self, cpu: u16) -> Option<&CpuInfo> {
        self.0.get(usize::from(cpu))?.as_ref()
    }

    /// Goes through the CPUs of which something was said.
    pub fn iter(&self) -> impl Iterator<Item = &CpuInfo> {
        self.0.iter().flatten()
    }

    /// Converts a time of a CPU's clock to CPU 0's.
    #[must_use]
    pub fn common_time(&self, cpu: u16, time: u64) -> u64 {
        let correction = self.get(cpu).map_or(0, CpuInfo::clock_correction);
        // Wrapping, as the counters do: a wrong offset of a hostile capture gives a wrong time and nothing worse.
        time.wrapping_add_signed(correction.wrapping_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_clock_that_is_off_are_brought_to_that_of_cpu_0() {
        let mut cpus = Cpus::default();
        let info = CpuInfo { cpu: 1, clock_offset: -1000, clock_uncertainty: 10, ..CpuInfo::default() };
        assert!(cpus.take(&info, 2));
        assert_eq!(cpus.common_time(1, 500), 1500);
        assert_eq!(cpus.common_time(0, 500), 500, "nothing is known of that one");
        assert_eq!(cpus.common_time(9, 500), 500);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let mut cpus = Cpus::default();
        let info = CpuInfo { cpu: 1, ..CpuInfo::default() };
        assert!(!cpus.take(&CpuInfo { cpu: 2, ..info }, 2), "a CPU that was not announced");
        assert!(cpus.take(&info, 2) && cpus.take(&info, 2), "the same again");
        assert!(!cpus.take(&CpuInfo { apic_id: 7, ..info }, 2), "a contradiction");
        let hostile = CpuInfo { clock_offset: i64::MIN, ..info };
        let mut cpus = Cpus::default();
        assert!(cpus.take(&hostile, 2));
        assert_eq!(cpus.common_time(1, 0), 1 << 63);
    }
}
