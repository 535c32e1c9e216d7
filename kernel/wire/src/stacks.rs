//! The coding of call chains.
//!
//! Call chains share their outer parts, so the drain interns them as a tree: a node is one return
//! address under the node of its caller, and a sample names the node of its innermost caller. A node is
//! defined once per *epoch*; a definition lost on the line hurts until the next epoch only.
//!
//! Two roots need no definition: [`ROOT_COMPLETE`], above which there is nothing, and
//! [`ROOT_TRUNCATED`], above which the chain was cut (depth limit, or a frame pointer that left the
//! stack). The first defined node of an epoch is [`FIRST_NODE`].

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Root of chains that were walked to their end.
pub const ROOT_COMPLETE: u32 = 0;
/// Root of chains that were cut.
pub const ROOT_TRUNCATED: u32 = 1;
/// Number of the first defined node of an epoch.
pub const FIRST_NODE: u32 = 2;

/// Consecutively numbered nodes of the call-chain tree of one CPU.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `cpu` | u16 | index | the CPU whose blocks name the nodes |
/// | `epoch` | u32 | count | nodes of this epoch and of the one before it are known, older ones forgotten |
/// | `first_node` | u32 | node | number of the first node here |
/// | `base_ip` | u64 | address | address that the first delta starts from |
/// | `count` | u16 | nodes | how many follow |
/// | `nodes` | bytes | | `count` times: node number minus its parent's (varint), address delta (zigzag varint) |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Stacks<'a> {
    /// The CPU whose blocks name the nodes.
    pub cpu: u16,
    /// The epoch that the nodes belong to.
    pub epoch: u32,
    /// Number of the first node.
    pub first_node: u32,
    /// Address that the first delta starts from.
    pub base_ip: u64,
    /// Number of nodes.
    pub count: u16,
    /// The coded nodes.
    pub nodes: &'a [u8],
}

impl<'a> Stacks<'a> {
    /// Decodes the nodes.
    #[must_use]
    pub fn nodes(&self) -> StackNodeIter<'a> {
        StackNodeIter { left: self.count, bytes: self.nodes, next: self.first_node, ip: self.base_ip }
    }
}

/// One node: a return address and the node of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackNode {
    /// The node's number.
    pub node: u32,
    /// The caller's node, or a root: always smaller than `node`.
    pub parent: u32,
    /// The return address.
    pub ip: u64,
}

/// Iterator over the nodes of a [`Stacks`]; ends early where the bytes make no sense.
#[derive(Clone, Debug)]
pub struct StackNodeIter<'a> {
    left: u16,
    bytes: &'a [u8],
    next: u32,
    ip: u64,
}

impl StackNodeIter<'_> {
    /// Tells whether all nodes were decoded.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.bytes.is_empty()
    }
}

impl Iterator for StackNodeIter<'_> {
    type Item = StackNode;

    fn next(&mut self) -> Option<StackNode> {
        let left = self.left.checked_sub(1)?;
        let ((distance, ip_delta), rest) = postcard::take_from_bytes::<(u32, i64)>(self.bytes).ok()?;
        let node = self.next;
        let parent = node.checked_sub(distance).filter(|parent| *parent < node)?;
        self.ip = self.ip.wrapping_add_signed(ip_delta);
        self.next = node.checked_add(1)?;
        (self.left, self.bytes) = (left, rest);
        Some(StackNode { node, parent, ip: self.ip })
    }
}

/// Builder of one [`Stacks`] after another on one CPU, without allocation.
#[derive(Debug)]
pub struct StacksEncoder {
    epoch: u32,
    first_node: u32,
    base_ip: u64,
    ip: u64,
    count: u16,
    len: usize,
    bytes: [u8; Self::BYTES_MAX],
}

impl StacksEncoder {
    /// Most bytes of coded nodes in one frame.
    pub const BYTES_MAX: usize = 1024;

    const NODE_BYTES_MAX: usize = 5 + 10;

    /// Creates an encoder for epoch 0.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            epoch: 0,
            first_node: FIRST_NODE,
            base_ip: 0,
            ip: 0,
            count: 0,
            len: 0,
            bytes: [0; Self::BYTES_MAX],
        }
    }

    /// Returns the epoch that new nodes belong to.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Tells whether no node waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Tells whether the nodes must be taken before another one is pushed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len + Self::NODE_BYTES_MAX > Self::BYTES_MAX
    }

    /// Adds the next node under `parent` and returns its number, or `None` where the frame is full or
    /// `parent` is not an earlier node.
    pub fn push(&mut self, parent: u32, ip: u64) -> Option<u32> {
        let node = self.first_node.checked_add(u32::from(self.count))?;
        if self.is_full() || parent >= node {
            return None;
        }
        let free = self.bytes.get_mut(self.len..)?;
        let delta = ip.wrapping_sub(self.ip).cast_signed();
        self.len += postcard::to_slice(&(node - parent, delta), free).ok()?.len();
        self.count += 1;
        self.ip = ip;
        Some(node)
    }

    /// Returns the frame of what was pushed.
    #[must_use]
    pub fn stacks(&self, cpu: u16) -> Stacks<'_> {
        Stacks {
            cpu,
            epoch: self.epoch,
            first_node: self.first_node,
            base_ip: self.base_ip,
            count: self.count,
            nodes: self.bytes.get(..self.len).unwrap_or_default(),
        }
    }

    /// Starts the next frame of the same epoch.
    pub fn clear(&mut self) {
        self.first_node += u32::from(self.count);
        self.base_ip = self.ip;
        self.count = 0;
        self.len = 0;
    }

    /// Starts the next epoch: all nodes are forgotten.
    pub fn next_epoch(&mut self) {
        self.clear();
        self.epoch = self.epoch.wrapping_add(1);
        self.first_node = FIRST_NODE;
    }
}

impl Default for StacksEncoder {
    fn default() -> Self {
        Self::new()
    }
}
