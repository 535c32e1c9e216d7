//! Address spaces of processes.
//!
//! The user half is a space's own. The kernel half's top-level entries are copied from the master when the
//! space is made, and never again: an area that is made later is missing until a
//! [fault](crate::memory::fault) copies its entry. All that a fault needs in order to do so was there from the
//! start: direct map, stacks, heap and image.

#![expect(unsafe_code, reason = "loads page tables and writes through the direct map")]

use alloc::vec::Vec;

use x86_64::structures::paging::{PageTableFlags, PhysFrame};

use super::master_root;
pub use crate::arch::layout::USER_END;
use crate::arch::layout::{PAGE_BYTES, direct, is_user};
use crate::arch::paging::{self, MapError, PageTables, lazy};
use crate::lock::Mutex;

/// Top-level tables of all processes. Locked by thread context only.
static ROOTS: Mutex<Vec<PhysFrame>> = Mutex::new(Vec::new());

/// One address space: a user half of its own, and the kernel half's top-level entries as the master had them
/// when it was made.
///
/// Dropping it gives user frames, tables and root back.
pub struct AddressSpace {
    tables: PageTables,
}

/// What user code may do with a page: never write and execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRights {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

impl UserRights {
    const fn flags(self) -> PageTableFlags {
        let user = PageTableFlags::PRESENT.union(PageTableFlags::USER_ACCESSIBLE);
        match self {
            Self::Read => user.union(PageTableFlags::NO_EXECUTE),
            Self::ReadWrite => user.union(PageTableFlags::NO_EXECUTE).union(PageTableFlags::WRITABLE),
            Self::ReadExecute => user,
        }
    }
}

impl AddressSpace {
    /// Makes a space with an empty user half.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`].
    pub fn new_process() -> Result<Self, MapError> {
        // Held over the copy: an area is either in the master already, or its maker finds this space listed.
        let mut roots = ROOTS.lock();
        roots.try_reserve(1).map_err(|_| MapError::OutOfFrames)?;
        let mut tables = PageTables::new()?;
        tables.copy_kernel_half(master_root());
        roots.push(tables.root());
        Ok(Self { tables })
    }

    /// Returns the top-level table, for CR3.
    pub const fn root(&self) -> PhysFrame {
        self.tables.root()
    }

    /// Maps whole pages from `start` on, `len` bytes rounded up, to new frames of zeros.
    ///
    /// # Errors
    /// [`MapError::NotUser`] where the range does not start a page or reaches [`USER_END`]; else the reason of
    /// the first page that could not be mapped: those before it stay mapped.
    pub fn map_user(&mut self, start: u64, len: u64, rights: UserRights) -> Result<(), MapError> {
        check_user(start, len)?;
        if !start.is_multiple_of(PAGE_BYTES) {
            return Err(MapError::NotUser);
        }
        self.tables.map_new(start, len, rights.flags())
    }

    /// Writes to mapped pages, whatever user code may do with them: for the loader of programs.
    ///
    /// # Errors
    /// [`MapError::NotUser`] where the range reaches [`USER_END`], [`MapError::NotMapped`] at the first page
    /// that is absent: the bytes before it are written.
    pub fn write_user(&mut self, start: u64, bytes: &[u8]) -> Result<(), MapError> {
        check_user(start, bytes.len() as u64)?;
        let (mut address, mut rest) = (start, bytes);
        while !rest.is_empty() {
            let in_page = usize::try_from(PAGE_BYTES - address % PAGE_BYTES).unwrap_or_default();
            let (now, later) = rest.split_at(in_page.min(rest.len()));
            self.write_page(address, now)?;
            address += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Writes bytes that do not reach beyond their page.
    fn write_page(&mut self, address: u64, bytes: &[u8]) -> Result<(), MapError> {
        let target = direct::<u8>(self.tables.translate(address)?);
        // SAFETY: (1) the frame is mapped at a user address (checked by the callers), so it came from
        // `map_user` and holds user memory, to which nobody has a reference; (2) the direct map covers it; (3)
        // the bytes end in the same page (caller).
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Loads the space into this CPU.
    ///
    /// # Safety
    /// The space is not dropped while a CPU has it loaded, and nothing uses user addresses of another one.
    #[cfg(feature = "selftest")]
    pub unsafe fn load(&self) {
        // SAFETY: (1) (caller); (2) image, stacks, heap and direct map are in every space.
        unsafe { paging::load(self.root()) };
    }

    /// Tells whether the space has the top-level entry of an address, by looking at its tables.
    #[cfg(feature = "selftest")]
    pub fn has_top_level(&self, address: u64) -> bool {
        lazy::has_top_level(self.root(), address)
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let root = self.root();
        assert!(paging::loaded() != root, "a loaded address space is not dropped");
        ROOTS.lock().retain(|listed| *listed != root);
        // SAFETY: (1) the space is not loaded (checked above for this CPU; (caller of `load`) for others); (2)
        // the kernel refers to user memory by user addresses only, which need it loaded.
        unsafe { self.tables.free_user_half() };
    }
}

/// Copies the top-level entry of an area from the master into every process: Linux's `vmalloc_sync_all`.
///
/// # Context
/// Thread.
pub fn sync_all(area_start: u64) {
    for root in ROOTS.lock().iter() {
        lazy::install_top_level(*root, master_root(), area_start);
    }
}

fn check_user(start: u64, len: u64) -> Result<(), MapError> {
    if is_user(start, len) { Ok(()) } else { Err(MapError::NotUser) }
}
