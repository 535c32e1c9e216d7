//! The one function that makes foreign text fit for a terminal.
//!
//! Every name and message that comes from the wire or from an ELF passes through [`clean`] where it
//! enters the program, so nothing further in has to think of it again.

use std::borrow::Cow;

/// Replaces what could drive a terminal, or deceive its reader, by its escaped form.
///
/// # Examples
/// ```
/// assert_eq!(nmiprof::capture::clean("red \x1b[31m"), "red \\u{1b}[31m");
/// ```
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            cleaned.extend(c.escape_unicode());
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

/// Tells whether `c` is a control character, a line separator, or changes the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_passes_unchanged_and_uncopied() {
        assert!(matches!(clean("<matrix as Workload>::run — µ"), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_that_drives_a_terminal_survives() {
        for c in ['\0', '\n', '\r', '\t', '\u{7f}', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}'] {
            let cleaned = clean(&format!("a{c}b")).into_owned();
            assert_eq!(cleaned, format!("a\\u{{{:x}}}b", u32::from(c)));
        }
    }
}
