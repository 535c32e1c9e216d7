//! Call chains of all CPUs and epochs, interned as one tree.
//!
//! The wire numbers the nodes of each CPU's tree anew in every epoch ([`nmiprof_wire::stacks`]). Here
//! they become nodes of one [`ChainTree`] whose numbers never change, so that consumers can count by
//! [`ChainId`]. Three roots say how a chain ends: walked to its end, cut by the kernel, or unknown
//! because a definition was lost on the line.
//!
//! The last two epochs of a CPU are known: samples that the kernel counted may come when the next epoch has begun.
//!
//! All of it is bounded: [`CHAINS_MAX`] nodes, [`EPOCH_NODES_MAX`] per epoch, two epochs per CPU,
//! [`DEPTH_MAX`] callers. What exceeds a bound is unknown or cut, never an error.

use std::collections::HashMap;

use nmiprof_wire::{Stacks, stacks};

/// Most nodes of the tree.
pub const CHAINS_MAX: usize = 1 << 22;
/// Most nodes of one epoch of one CPU.
pub const EPOCH_NODES_MAX: usize = 1 << 18;
/// Most callers of one sample.
pub const DEPTH_MAX: u16 = 1024;

/// Epochs of a CPU that are known: the current one comes first.
const EPOCHS: usize = 2;

/// Most wire nodes that the epochs of all CPUs together may define.
const EPOCH_NODES_TOTAL_MAX: usize = 1 << 23;

/// Number of a call chain: its innermost node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u32);

impl ChainId {
    /// The empty chain of a sample whose callers were walked to their end, or that has none.
    pub const COMPLETE: Self = Self(0);
    /// The empty chain of a sample whose callers were cut at once.
    pub const TRUNCATED: Self = Self(1);
    /// The empty chain of a sample whose callers were lost.
    pub const UNKNOWN: Self = Self(2);
}

#[derive(Clone, Copy, Debug)]
struct ChainNode {
    parent: ChainId,
    root: ChainId,
    depth: u16,
    ip: u64,
}

/// Interned call chains.
#[derive(Debug)]
pub struct ChainTree {
    nodes: Vec<ChainNode>,
    index: HashMap<(ChainId, u64), ChainId>,
}

impl ChainTree {
    pub(super) fn new() -> Self {
        let root = |id| ChainNode { parent: id, root: id, depth: 0, ip: 0 };
        let roots = [ChainId::COMPLETE, ChainId::TRUNCATED, ChainId::UNKNOWN];
        Self { nodes: roots.into_iter().map(root).collect(), index: HashMap::new() }
    }

    /// Returns the return addresses of a chain, innermost caller first.
    pub fn callers(&self, chain: ChainId) -> impl Iterator<Item = u64> + '_ {
        let mut node = self.node(chain);
        std::iter::from_fn(move || {
            let ip = (node.depth > 0).then_some(node.ip)?;
            node = self.node(node.parent);
            Some(ip)
        })
    }

    /// Returns how a chain ends: one of the three constants of [`ChainId`].
    #[must_use]
    pub fn root(&self, chain: ChainId) -> ChainId {
        self.node(chain).root
    }

    /// Tells whether a chain is not known up to its outermost caller: cut, or lost on the line.
    #[must_use]
    pub fn is_partial(&self, chain: ChainId) -> bool {
        self.root(chain) != ChainId::COMPLETE
    }

    fn node(&self, chain: ChainId) -> ChainNode {
        let unknown = ChainNode { parent: ChainId::UNKNOWN, root: ChainId::UNKNOWN, depth: 0, ip: 0 };
        self.nodes.get(chain.0 as usize).copied().unwrap_or(unknown)
    }

    /// Finds or makes the node for a return address under `parent`.
    fn intern(&mut self, parent: ChainId, ip: u64) -> ChainId {
        let above = self.node(parent);
        if above.depth >= DEPTH_MAX {
            return self.intern(ChainId::TRUNCATED, ip);
        }
        if let Some(known) = self.index.get(&(parent, ip)) {
            return *known;
        }
        let Some(id) = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < CHAINS_MAX) else {
            return ChainId::UNKNOWN;
        };
        self.nodes.push(ChainNode { parent, root: above.root, depth: above.depth + 1, ip });
        self.index.insert((parent, ip), ChainId(id));
        ChainId(id)
    }
}

/// What the nodes of each CPU's current epoch mean, and those of the epoch before it.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    cpus: Vec<[Epoch; EPOCHS]>,
    /// Nodes held for all CPUs.
    nodes: usize,
}

#[derive(Clone, Debug, Default)]
struct Epoch {
    number: Option<u32>,
    /// Indexed by wire node less [`stacks::FIRST_NODE`].
    ids: Vec<ChainId>,
}

impl Epochs {
    /// Takes in definitions; refuses a frame that is malformed or exceeds a bound.
    ///
    /// The CPU's number was checked before. A node that is defined twice keeps its first meaning.
    #[must_use]
    pub(super) fn define(&mut self, tree: &mut ChainTree, frame: &Stacks<'_>) -> bool {
        let mut nodes = frame.nodes();
        let count = nodes.by_ref().count();
        let first = frame.first_node.checked_sub(stacks::FIRST_NODE);
        let (Some(first), true) = (first.map(|node| node as usize), nodes.is_whole()) else {
            return false;
        };
        let end = first.saturating_add(count);
        let Some(epoch) = self.room_for(frame.cpu, frame.epoch, end) else {
            return false;
        };
        for node in frame.nodes() {
            let parent = epoch.chain(node.parent);
            let index = (node.node - stacks::FIRST_NODE) as usize;
            if let Some(id) = epoch.ids.get_mut(index).filter(|id| **id == ChainId::UNKNOWN) {
                *id = tree.intern(parent, node.ip);
            }
        }
        true
    }

    /// Returns the table of a CPU's epoch, with room for `end` nodes; a new epoch forgets the one before the last.
    fn room_for(&mut self, cpu: u16, number: u32, end: usize) -> Option<&mut Epoch> {
        let cpu = usize::from(cpu);
        if self.cpus.len() <= cpu {
            self.cpus.resize_with(cpu + 1, Default::default);
        }
        let epochs = self.cpus.get_mut(cpu)?;
        if epochs.iter().all(|epoch| epoch.number != Some(number)) {
            epochs.rotate_right(1);
            let [current, ..] = epochs;
            self.nodes -= current.ids.len();
            current.ids.clear();
            current.number = Some(number);
        }
        let epoch = epochs.iter_mut().find(|epoch| epoch.number == Some(number))?;
        let more = end.saturating_sub(epoch.ids.len());
        if end > EPOCH_NODES_MAX || self.nodes + more > EPOCH_NODES_TOTAL_MAX {
            return None;
        }
        self.nodes += more;
        epoch.ids.resize(epoch.ids.len() + more, ChainId::UNKNOWN);
        Some(epoch)
    }

    /// Returns what the nodes of `number` mean on `cpu`.
    pub(super) fn lookup(&self, cpu: u16, number: u32) -> EpochNodes<'_> {
        let epochs = self.cpus.get(usize::from(cpu)).into_iter().flatten();
        let epoch = epochs.into_iter().find(|epoch| epoch.number == Some(number));
        EpochNodes { ids: epoch.map_or(&[], |epoch| &epoch.ids) }
    }
}

impl Epoch {
    fn chain(&self, node: u32) -> ChainId {
        EpochNodes { ids: &self.ids }.chain(node)
    }
}

/// Nodes of one epoch of one CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpochNodes<'a> {
    ids: &'a [ChainId],
}

impl EpochNodes<'_> {
    /// Returns the chain that a wire node names.
    #[inline]
    pub(super) fn chain(&self, node: u32) -> ChainId {
        match node {
            stacks::ROOT_COMPLETE => ChainId::COMPLETE,
            stacks::ROOT_TRUNCATED => ChainId::TRUNCATED,
            _ => {
                let index = (node - stacks::FIRST_NODE) as usize;
                self.ids.get(index).copied().unwrap_or(ChainId::UNKNOWN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nmiprof_wire::StacksEncoder;

    fn define(epochs: &mut Epochs, tree: &mut ChainTree, encoder: &StacksEncoder) {
        assert!(epochs.define(tree, &encoder.stacks(0)), "sound definitions");
    }

    fn callers(tree: &ChainTree, chain: ChainId) -> Vec<u64> {
        tree.callers(chain).collect()
    }

    #[test]
    fn equal_chains_of_two_epochs_are_one() {
        let (mut tree, mut epochs, mut encoder) = (ChainTree::new(), Epochs::default(), StacksEncoder::new());
        let main = encoder.push(stacks::ROOT_COMPLETE, 0x10).expect("room");
        let sort = encoder.push(main, 0x20).expect("room");
        define(&mut epochs, &mut tree, &encoder);
        let (first, old_sort) = (epochs.lookup(0, 0).chain(sort), sort);
        encoder.next_epoch();
        encoder.push(stacks::ROOT_TRUNCATED, 0x99).expect("room");
        let main = encoder.push(stacks::ROOT_COMPLETE, 0x10).expect("room");
        let sort = encoder.push(main, 0x20).expect("room");
        define(&mut epochs, &mut tree, &encoder);
        assert_eq!(epochs.lookup(0, 1).chain(sort), first);
        assert_eq!(callers(&tree, first), [0x20, 0x10]);
        assert_eq!(epochs.lookup(0, 0).chain(old_sort), first, "the epoch before is known");
        encoder.next_epoch();
        encoder.push(stacks::ROOT_COMPLETE, 0x10).expect("room");
        define(&mut epochs, &mut tree, &encoder);
        assert_eq!(epochs.lookup(0, 0).chain(old_sort), ChainId::UNKNOWN, "an old epoch is forgotten");
        assert_eq!(epochs.nodes, 3 + 1, "and so is the room for it");
    }

    #[test]
    fn a_lost_definition_leaves_the_known_part_under_the_unknown_root() {
        let (mut tree, mut epochs, mut encoder) = (ChainTree::new(), Epochs::default(), StacksEncoder::new());
        let lost = encoder.push(stacks::ROOT_COMPLETE, 0x10).expect("room");
        encoder.clear();
        let inner = encoder.push(lost, 0x20).expect("room");
        define(&mut epochs, &mut tree, &encoder);
        let chain = epochs.lookup(0, 0).chain(inner);
        assert_eq!(callers(&tree, chain), [0x20]);
        assert!(tree.is_partial(chain));
        assert_eq!(tree.root(chain), ChainId::UNKNOWN);
    }

    #[test]
    fn chains_are_cut_at_the_deepest_allowed() {
        let mut tree = ChainTree::new();
        let mut chain = ChainId::COMPLETE;
        for ip in 0..u64::from(DEPTH_MAX) {
            chain = tree.intern(chain, ip);
        }
        assert_eq!(tree.callers(chain).count(), usize::from(DEPTH_MAX));
        let deeper = tree.intern(chain, 1);
        assert_eq!(tree.root(deeper), ChainId::TRUNCATED);
    }

    #[test]
    fn a_hostile_first_node_allocates_nothing() {
        let (mut tree, mut epochs) = (ChainTree::new(), Epochs::default());
        for first_node in [0, 1, 1 << 20, u32::MAX] {
            let frame = Stacks { cpu: 0, epoch: 0, first_node, base_ip: 0, count: 1, nodes: &[1, 2] };
            assert!(!epochs.define(&mut tree, &frame), "first node {first_node} is refused");
        }
        assert_eq!(epochs.nodes, 0);
    }
}
