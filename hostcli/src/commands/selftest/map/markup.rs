//! A writer of markup that is well-formed by construction.
//!
//! Elements are closed by the function that opens them. Names of elements and attributes are ours; every
//! other text may come from an ELF file or from the guest, so it is cleaned and escaped here, and nowhere
//! else. The product is HTML that is also XML: each element is closed, each attribute has quotes.

use crate::capture::clean;

/// Attributes: names and values.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

/// Elements after which a line ends.
const BLOCKS: &[&str] = &[
    "address",
    "body",
    "dd",
    "details",
    "div",
    "dl",
    "figure",
    "figcaption",
    "footer",
    "g",
    "h1",
    "h2",
    "h3",
    "h4",
    "head",
    "header",
    "html",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "section",
    "style",
    "summary",
    "svg",
    "table",
    "tbody",
    "thead",
    "title",
    "tr",
    "ul",
];

/// Markup that is being written.
#[derive(Debug, Default)]
pub(super) struct Markup {
    text: String,
}

impl Markup {
    /// Writes an element with whatever `content` writes in it.
    pub(super) fn nest(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        content: impl FnOnce(&mut Self),
    ) {
        self.open(tag, attributes, ">");
        content(self);
        self.text.push_str("</");
        self.text.push_str(tag);
        self.text.push('>');
        self.end_line(tag);
    }

    /// Writes an element with a text in it.
    pub(super) fn element(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.nest(tag, attributes, |markup| markup.text(text));
    }

    /// Writes an element with prose in it: what stands between backticks is code.
    pub(super) fn prose(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.nest(tag, attributes, |markup| markup.inline(text));
    }

    /// Writes prose.
    pub(super) fn inline(&mut self, text: &str) {
        for (index, part) in text.split('`').enumerate() {
            match index % 2 {
                0 => self.text(part),
                _ => self.element("code", &[], part),
            }
        }
    }

    /// Writes an element that never has content.
    pub(super) fn void(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.open(tag, attributes, "/>");
    }

    /// Writes a text.
    pub(super) fn text(&mut self, text: &str) {
        for c in clean(text).chars() {
            match c {
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '&' => self.text.push_str("&amp;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&#39;"),
                // XML has no way to say these two.
                '\u{fffe}' | '\u{ffff}' => self.text.push('\u{fffd}'),
                c => self.text.push(c),
            }
        }
    }

    /// Writes a text of our own as it is.
    pub(super) fn own(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// Returns what was written.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn open(&mut self, tag: &'static str, attributes: Attributes<'_>, end: &'static str) {
        self.text.push('<');
        self.text.push_str(tag);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.text(value);
            self.text.push('"');
        }
        self.text.push_str(end);
    }

    fn end_line(&mut self, tag: &str) {
        if BLOCKS.contains(&tag) {
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Markup)) -> String {
        let mut markup = Markup::default();
        write(&mut markup);
        markup.finish()
    }

    #[test]
    fn what_is_opened_is_closed() {
        let text = written(|markup| {
            markup.nest("div", &[("class", "a"), ("id", "b")], |markup| {
                markup.element("i", &[], "x");
                markup.void("br", &[]);
            });
        });
        assert_eq!(text, "<div class=\"a\" id=\"b\"><i>x</i><br/></div>\n");
    }

    #[test]
    fn no_text_becomes_markup() {
        let hostile = "</td><script>alert('&amp;\"')</script>";
        let text = written(|markup| markup.element("b", &[("title", hostile)], hostile));
        let escaped = "&lt;/td&gt;&lt;script&gt;alert(&#39;&amp;amp;&quot;&#39;)&lt;/script&gt;";
        assert_eq!(text, format!("<b title=\"{escaped}\">{escaped}</b>"));
    }

    #[test]
    fn what_is_no_character_of_xml_is_replaced() {
        let text = written(|markup| markup.text("a\0\u{1b}\u{202e}\u{ffff}b"));
        assert_eq!(text, "a\\u{0}\\u{1b}\\u{202e}\u{fffd}b");
    }

    #[test]
    fn prose_has_code_between_backticks() {
        assert_eq!(
            written(|markup| markup.prose("p", &[], "an `<iret>` here")),
            "<p>an <code>&lt;iret&gt;</code> here</p>\n"
        );
    }
}
