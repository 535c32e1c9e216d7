//! RAM: one block from physical address 0, aligned to pages, and the walk of the guest's page tables over it.
#![expect(unsafe_code, reason = "allocates aligned memory that the engine maps")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::slice;

const PAGE_BYTES: usize = 4096;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const HUGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Physical memory.
#[derive(Debug)]
pub struct Ram {
    start: NonNull<u8>,
    bytes: usize,
}

/// What an access needs of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

impl Ram {
    /// Allocates so much of it, all zero.
    ///
    /// # Panics
    /// If that is no whole number of pages.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let layout = layout(bytes);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, bytes }
    }

    /// Returns how much there is.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes as u64
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: (1) the block has so many bytes; (2) the engine writes it only while it runs, and then nobody has a
        // reference to it.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// Returns the bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Reads bytes at a physical address; `None` where there is no RAM.
    #[must_use]
    pub fn physical(&self, address: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.bytes().get(start..start.checked_add(len)?)
    }

    /// Writes bytes at a physical address; `None` where there is no RAM.
    pub fn write_physical(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        self.bytes_mut().get_mut(start..start.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    /// Reads a word at a physical address.
    #[must_use]
    pub fn physical_word(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.physical(address, 8)?.try_into().ok()?))
    }

    /// Finds the physical address of a virtual one in the address space of this CR3, for the kernel.
    #[must_use]
    pub fn translate(&self, root: u64, address: u64, access: Access) -> Option<u64> {
        let needed = if access == Access::Write { PRESENT | WRITABLE } else { PRESENT };
        let mut table = root & FRAME;
        for shift in [39, 30, 21, 12] {
            let entry = self.physical_word(table + 8 * (address >> shift & 0x1ff))?;
            if entry & needed != needed {
                return None;
            }
            if shift == 12 || (shift < 39 && entry & HUGE != 0) {
                let offset = (1 << shift) - 1;
                return Some(entry & FRAME & !offset | address & offset);
            }
            table = entry & FRAME;
        }
        None
    }

    /// Reads bytes at a virtual address; `None` where a page is missing.
    #[must_use]
    pub fn read(&self, root: u64, address: u64, len: usize) -> Option<Vec<u8>> {
        let byte = |offset| {
            let physical = self.translate(root, address.wrapping_add(offset as u64), Access::Read)?;
            self.physical(physical, 1).map(|bytes| bytes[0])
        };
        (0..len).map(byte).collect()
    }

    /// Reads a word at a virtual address.
    #[must_use]
    pub fn read_word(&self, root: u64, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.read(root, address, 8)?.try_into().ok()?))
    }

    /// Writes a word at a virtual address, aligned; `None` where the page is missing or can't be written.
    pub fn write_word(&mut self, root: u64, address: u64, value: u64) -> Option<()> {
        let physical = self.translate(root, address, Access::Write)?;
        self.write_physical(physical, &value.to_le_bytes())
    }
}

impl Clone for Ram {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.bytes);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), layout(self.bytes)) };
    }
}

// SAFETY: the block belongs to this value alone.
unsafe impl Send for Ram {}

fn layout(bytes: usize) -> Layout {
    assert!(bytes > 0 && bytes.is_multiple_of(PAGE_BYTES), "a whole number of pages");
    Layout::from_size_align(bytes, PAGE_BYTES).expect("less than the address space")
}
