//! Memory: frames, address spaces, the heap, stacks, lazily mapped areas, and what rings are made of.
//!
//! Bring-up order: [`frames::init`], [`space::build`], [`heap::init`], then the rest.
//! The NMI path uses [`reserve`], [`fault`] and nothing else of this.

pub mod fault;
pub mod frames;
pub mod heap;
pub mod reserve;
pub mod ring_memory;
pub mod space;
pub mod stack;
pub mod vmalloc;
