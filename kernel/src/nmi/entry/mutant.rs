//! Entries with a known defect, for the self-test image: the sweep and the storm have to catch each.
//!
//! They are further stubs of the same assembly, chosen by `mutant=NAME`. The list at the end of each assembly
//! file says what is wrong with them, under the same names, but with underscores. All unmask NMIs early, so that
//! no window hides behind the mask.

/// Defines a function that finds the stub of a mutant: for each nested return, the labels and their names.
macro_rules! stubs {
    ($function:ident: $($nested_return:path { $($label:ident = $name:literal),+ $(,)? })+) => {
        unsafe extern "C" {
            $($(safe static $label: u8;)+)+
        }

        /// Returns the code for the mutant with this name.
        pub(super) fn $function(variant: $crate::nmi::entry::Variant, name: &str) -> Option<VirtAddr> {
            if variant.unmask != Unmask::Early {
                return None;
            }
            match (variant.nested_return, name) {
                $($(($nested_return, $name) => Some(address_of(&$label)),)+)+
                _ => None,
            }
        }
    };
}

pub(super) use stubs;
