//! Memory: frames, the kernel's address space, the heap, stacks, and the lazily mapped areas.
//!
//! Bring-up order: [`frames::init`], [`space::build`], [`heap::init`], then the rest.
//! The NMI path uses [`reserve`], [`fault`] and nothing else of this.

pub mod fault;
pub mod frames;
pub mod heap;
pub mod reserve;
pub mod space;
pub mod stack;
pub mod vmalloc;
