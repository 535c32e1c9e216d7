//! RAM: one block from physical address 0, aligned to pages, and the walk of the guest's page tables over it.
//!
//! The block is mapped memory, so that going back to a [`Picture`] of it costs what was written since, and not all of
//! it: the picture is a file in memory, of which the block becomes a private mapping, at the same address. The engine
//! knows the block by its address alone.
#![expect(unsafe_code, reason = "maps memory that the engine uses")]

use std::fs::File;
use std::io::{Error, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::ptr::{self, NonNull};
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

/// What RAM held at one moment.
#[derive(Debug)]
pub struct Picture {
    file: File,
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
        assert!(bytes > 0 && bytes.is_multiple_of(PAGE_BYTES), "a whole number of pages");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, which nobody else has.
        let start = unsafe { map(ptr::null_mut(), bytes, flags, NO_FILE) };
        Self { start, bytes }
    }

    /// Makes a picture of what it holds.
    ///
    /// # Panics
    /// Where the host has no file in memory to give.
    #[must_use]
    pub fn picture(&self) -> Picture {
        // SAFETY: the name ends with a zero.
        let descriptor = unsafe { libc::memfd_create(c"nmiprof-pc".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(descriptor >= 0, "a file in memory: {}", Error::last_os_error());
        // SAFETY: it was just opened, and belongs to nobody else.
        let mut file = unsafe { File::from_raw_fd(descriptor) };
        file.write_all(self.bytes()).expect("as much memory as RAM has");
        Picture { file, bytes: self.bytes }
    }

    /// Makes it what it was in a picture.
    ///
    /// # Panics
    /// If that is of RAM of another size.
    pub fn go_back(&mut self, picture: &Picture) {
        assert_eq!(self.bytes, picture.bytes, "a picture of this RAM");
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        // SAFETY: it replaces this block's own pages, to which nobody has a reference; the file is never written again.
        unsafe { map(self.start.as_ptr(), self.bytes, flags, picture.file.as_raw_fd()) };
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
        // SAFETY: so many bytes were mapped there, and nobody uses them any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: the block belongs to this value alone.
unsafe impl Send for Ram {}

const NO_FILE: i32 = -1;

/// Maps memory.
///
/// # Panics
/// Where there is none.
///
/// # Safety
/// With `MAP_FIXED`: nobody has a reference to what was there.
unsafe fn map(place: *mut u8, bytes: usize, flags: i32, file: i32) -> NonNull<u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: (caller).
    let start = unsafe { libc::mmap(place.cast(), bytes, protection, flags, file, 0) };
    assert_ne!(start, libc::MAP_FAILED, "memory: {}", Error::last_os_error());
    NonNull::new(start.cast()).expect("not at 0")
}
