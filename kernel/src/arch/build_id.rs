//! The build-id that the linker wrote into this image.

#![expect(unsafe_code, reason = "reads a linker-defined note")]

use core::ptr;

use nmiprof_wire::BuildId;

/// An ELF note as GNU build-ids have it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Note {
    name_len: u32,
    value_len: u32,
    kind: u32,
    name: [u8; 4],
    value: [u8; 20],
}

unsafe extern "C" {
    static __build_id_note: Note;
}

/// Returns the build-id, or zeros if the linker wrote none.
pub fn build_id() -> BuildId {
    // SAFETY: the linker script puts the note there, and read-only data follows it in any case.
    let note = unsafe { ptr::read_volatile(&raw const __build_id_note) };
    if note.name == *b"GNU\0" && note.value_len == 20 { BuildId(note.value) } else { BuildId::default() }
}
