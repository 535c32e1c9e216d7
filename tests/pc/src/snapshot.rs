//! Snapshots: going back, and going on twice.
//!
//! A snapshot is for going back many times on one machine: what the engine has translated stays, and so do the counts
//! per address, which are for whole runs. A fork is another machine, which goes on by itself.

use crate::engine::Engine;
use crate::machine::{Machine, Stopped};
use crate::ram::Picture;
use crate::watch::Watch;

/// The state of a machine at one boundary.
#[derive(Debug)]
pub struct Snapshot {
    cpu: Vec<u8>,
    ram: Picture,
    /// All but the sites.
    watch: Watch,
    passed_access: Option<u64>,
    is_halted: bool,
    ended: Option<Stopped>,
}

impl Machine {
    /// Copies the machine's state, but for the counts per address.
    pub fn snapshot(&mut self) -> Snapshot {
        let cpu = self.engine.save();
        let sites = std::mem::take(&mut self.engine.guest_mut().sites);
        let watch = self.engine.guest().clone();
        self.engine.guest_mut().sites = sites;
        let ram = self.engine.ram().picture();
        Snapshot {
            cpu,
            ram,
            watch,
            passed_access: self.passed_access,
            is_halted: self.is_halted,
            ended: self.ended.clone(),
        }
    }

    /// Goes back to a snapshot of this machine; the counts per address stay.
    pub fn go_back(&mut self, snapshot: &Snapshot) {
        self.engine.restore(&snapshot.cpu);
        self.engine.ram_mut().go_back(&snapshot.ram);
        self.engine.flush_translations();
        let sites = std::mem::take(&mut self.engine.guest_mut().sites);
        let mut watch = snapshot.watch.clone();
        watch.sites = sites;
        *self.engine.guest_mut() = watch;
        self.passed_access = snapshot.passed_access;
        self.is_halted = snapshot.is_halted;
        self.ended.clone_from(&snapshot.ended);
    }

    /// Makes a copy that goes on by itself: the same guest, registers, devices and counts.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let saved = self.engine.save();
        let mut engine = Engine::new(self.engine.ram().clone(), self.engine.guest().clone());
        engine.restore(&saved);
        Self {
            engine,
            kernel: self.kernel.clone(),
            labels: self.labels.clone(),
            watched: self.watched.clone(),
            passed_access: self.passed_access,
            is_halted: self.is_halted,
            ended: self.ended.clone(),
        }
    }
}
