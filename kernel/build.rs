//! Tells the linker where the kernel's parts go, and to give the image a build-id, which names it in captures.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=kernel.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{directory}/kernel.ld");
        println!("cargo::rustc-link-arg-bins=--build-id=sha1");
    }
}
