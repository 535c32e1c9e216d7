//! Instructions as text, for readers.

use std::ops::Range;

use iced_x86::{Formatter as _, Instruction, IntelFormatter, Mnemonic};

use super::Code;

/// One instruction as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it is.
    pub address: u64,
    /// The instruction; a target is named by its label.
    pub text: String,
}

impl Code {
    /// Returns the instruction at `address` as text; `None` where there is none.
    #[must_use]
    pub fn disassemble(&self, address: u64) -> Option<String> {
        Some(self.format(&self.instruction(address)?))
    }

    /// Returns the instructions of a stretch of code, without the padding at its end.
    #[must_use]
    pub fn lines(&self, stretch: Range<u64>) -> Vec<Line> {
        let (mut lines, mut address, mut used) = (Vec::new(), stretch.start, 0);
        while address < stretch.end
            && let Some(instruction) = self.instruction(address)
        {
            lines.push(Line { address, text: self.format(&instruction) });
            if !matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
                used = lines.len();
            }
            address = instruction.next_ip();
        }
        lines.truncate(used);
        lines
    }

    /// Names an address: its label, or the nearest one before it and the distance.
    #[must_use]
    pub fn name(&self, address: u64) -> String {
        let place = self.describe(address);
        place.strip_suffix("+0x0").map_or(place.clone(), str::to_owned)
    }

    fn format(&self, instruction: &Instruction) -> String {
        let (mut formatter, mut text) = (IntelFormatter::new(), String::new());
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_space_after_operand_separator(true);
        options.set_space_between_memory_add_operators(true);
        match instruction.near_branch_target() {
            0 => formatter.format(instruction, &mut text),
            target => {
                formatter.format_mnemonic(instruction, &mut text);
                text.push(' ');
                text.push_str(&self.name(target));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;

    fn code() -> Code {
        Code::parse(images::SELFTEST).expect("an ELF file")
    }

    #[test]
    fn an_instruction_reads_as_in_the_source_and_a_target_by_its_label() {
        let code = code();
        let text = |label: &str| code.disassemble(code.address(label).expect("a label")).expect("code");
        assert_eq!(text("nmi_rostedt_iretq"), "iretq");
        assert_eq!(text("nmi_rostedt_early_copy"), "push qword ptr [rsp + 0x20]");
        assert_eq!(text("nmi_tristate_window"), "jne nmi_tristate_again");
        let entry = code.lines(code.entry("nmi_latched").expect("it is built in"));
        assert!(entry.iter().any(|line| line.text.starts_with("call nmiprof_kernel::nmi::run")));
        assert_eq!(code.disassemble(0), None);
    }

    #[test]
    fn a_stretch_is_listed_to_its_end_without_the_padding() {
        let code = code();
        let lines = code.lines(code.entry("nmi_tristate").expect("it is built in"));
        assert!(lines.windows(2).all(|pair| pair[0].address < pair[1].address));
        assert_eq!(lines.last().map(|line| line.text.as_str()), Some("iretq"), "of the nested path");
        assert!(code.lines(0..8).is_empty());
    }
}
