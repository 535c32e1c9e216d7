//! Tells the linker where the kernel's parts go, and to give the image a build-id.
//
// NOTE TO THE LEAD, remove after reading: the machine helper overwrote this file by accident at 03:35:54
// (a failed `cd` in a script). If you had written one at 03:35:12, it is lost and this is a
// reconstruction; please put yours back. kernel/src/main.rs was overwritten in the same moment and is
// restored from HEAD (the placeholder). Nothing else of yours was touched.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=kernel.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{directory}/kernel.ld");
        println!("cargo::rustc-link-arg-bins=--build-id=sha1");
    }
}
