//! The commands that are built into GRUB: find this image, load the kernel, hand it its words, start it.
//!
//! They are read by GRUB's rescue parser, which knows words and quotes and nothing else. The kernel's file is named by
//! its build-id, so that GRUB finds this image and no other one on another disk of the machine.

use super::IsoError;
use crate::capture::clean;
use crate::images;

/// Where the files are on the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Path of the kernel.
    pub kernel: String,
    /// Path of the boot module.
    pub module: String,
}

impl Files {
    /// Names the files of a kernel.
    #[must_use]
    pub fn of(kernel: &[u8]) -> Self {
        let id = images::build_id(kernel).map_or("kernel".to_owned(), |id| id.to_string());
        let short: String = id.chars().take(20).collect();
        Self { kernel: format!("/boot/{short}.elf"), module: format!("/boot/{short}.cpio") }
    }
}

/// Returns the commands.
///
/// # Errors
/// [`IsoError::Word`] where a word would not arrive as it is.
pub fn commands(files: &Files, words: &[String], has_module: bool) -> Result<String, IsoError> {
    let Files { kernel, module } = files;
    let words = words.iter().map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?.join(" ");
    let module = if has_module { format!("module2 {module}\n") } else { String::new() };
    Ok(format!(
        "search.file {kernel} root\n\
         echo 'nmiprof: the capture leaves by COM1 (0x3f8), 115200 baud, 8N1'\n\
         multiboot2 {kernel} {words}\n\
         {module}\
         boot\n"
    ))
}

/// Quotes a word for GRUB, which escapes some characters when it hands words on: those are refused.
fn quoted(word: &str) -> Result<String, IsoError> {
    let is_sound = |c: char| !c.is_control() && !matches!(c, '\'' | '"' | '\\' | ' ');
    if word.chars().all(is_sound) {
        Ok(format!("'{word}'"))
    } else {
        Err(IsoError::Word(clean(word).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files { kernel: "/boot/k.elf".to_owned(), module: "/boot/k.cpio".to_owned() }
    }

    #[test]
    fn words_arrive_one_by_one_and_the_module_only_where_there_is_one() {
        let words = ["period=7".to_owned(), "events={cycles,instructions}".to_owned()];
        let text = commands(&files(), &words, true).expect("sound words");
        assert!(
            text.contains("\nmultiboot2 /boot/k.elf 'period=7' 'events={cycles,instructions}'\n"),
            "{text}"
        );
        assert!(text.contains("\nmodule2 /boot/k.cpio\n"), "{text}");
        assert!(text.ends_with("\nboot\n"), "{text}");
        assert!(!commands(&files(), &[], false).expect("none is fine").contains("module2"));
    }

    #[test]
    fn words_that_would_change_on_their_way_are_refused() {
        for word in ["a'b", "a\nboot", "a b", "a\\b", "a\"b"] {
            let refused = commands(&files(), &[word.to_owned()], false);
            assert!(matches!(refused, Err(IsoError::Word(_))), "{word:?}");
        }
    }
}
