//! Samples as text.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::fields::Fields;
use super::order::Waiting;
use crate::capture::{ChainTree, Owner, Processes, RunInfo, SampleTime};
use crate::symbols::{Resolved, SourceFrame, Symbols, UNKNOWN};

/// Most texts that are kept; then all are forgotten and made again.
const TEXTS_MAX: usize = 1 << 18;

/// Printer of samples. The text of an address is made once.
pub(super) struct Printer<'run, 'elf> {
    run: &'run RunInfo,
    fields: Fields,
    symbols: Option<Symbols<'elf>>,
    has_inlines: bool,
    texts: HashMap<(Owner, u64, Role), String>,
}

/// What the chains and processes of samples are found in.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The call chains.
    pub(super) chains: &'a ChainTree,
    /// The processes.
    pub(super) processes: &'a Processes,
}

/// What an address is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// The end of a sample's line.
    Line,
    /// The innermost lines of a call chain.
    Innermost,
    /// The lines of a return address in a call chain.
    Caller,
}

impl<'run, 'elf> Printer<'run, 'elf> {
    pub(super) fn new(
        run: &'run RunInfo,
        fields: Fields,
        symbols: Option<Symbols<'elf>>,
        has_inlines: bool,
    ) -> Self {
        Self { run, fields, symbols, has_inlines, texts: HashMap::new() }
    }

    /// Prints one sample.
    pub(super) fn print(
        &mut self,
        origin: Origin<'_>,
        waiting: &Waiting,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let sample = &waiting.sample;
        self.print_head(waiting, out)?;
        if !self.fields.has_place() {
            return writeln!(out);
        }
        let owner = |ip| origin.processes.owner(sample.process, ip);
        if !waiting.has_chain {
            let has_head = self.fields.has_head() || sample.time.exact().is_none();
            let gap = if has_head { " " } else { "" };
            return write!(out, "{gap}{}", self.text(owner(sample.ip), sample.ip, Role::Line));
        }
        writeln!(out)?;
        out.write_all(self.text(owner(sample.ip), sample.ip, Role::Innermost).as_bytes())?;
        for ip in origin.chains.callers(sample.chain) {
            out.write_all(self.text(owner(ip), ip, Role::Caller).as_bytes())?;
        }
        writeln!(out)
    }

    fn print_head(&self, waiting: &Waiting, out: &mut impl Write) -> io::Result<()> {
        let mut gap = "";
        if self.fields.cpu {
            write!(out, "[{:03}]", waiting.cpu)?;
            gap = " ";
        }
        if self.fields.time {
            write!(out, "{gap}{}:", self.time(waiting.sample.time))?;
            gap = " ";
        }
        if waiting.sample.time.exact().is_none() {
            write!(out, "{gap}{} samples:", waiting.sample.count)?;
            gap = " ";
        }
        if self.fields.event {
            write!(out, "{gap}{}:", self.run.event_name(waiting.event))?;
        }
        Ok(())
    }

    /// Returns the text of a time: two with dots between where it is known only that it lies there.
    fn time(&self, time: SampleTime) -> String {
        let text = |ticks| {
            let (seconds, us) = self.run.seconds_and_us(ticks);
            format!("{seconds:5}.{us:06}")
        };
        match time {
            SampleTime::At(time) => text(time),
            SampleTime::Within { first, last } => format!("{}..{}", text(first), text(last).trim_start()),
        }
    }

    /// Returns the text of an address, making it if it is new.
    fn text(&mut self, owner: Owner, ip: u64, role: Role) -> &str {
        if self.texts.len() >= TEXTS_MAX {
            self.texts.clear();
        }
        let maker = TextMaker { fields: self.fields, has_inlines: self.has_inlines };
        let symbols = &mut self.symbols;
        self.texts.entry((owner, ip, role)).or_insert_with(|| {
            let resolved = symbols.as_mut().map(|symbols| match role {
                Role::Line | Role::Innermost => symbols.instruction(owner, ip),
                Role::Caller => symbols.call(owner, ip),
            });
            let resolved = resolved.unwrap_or_default();
            match role {
                Role::Line => maker.line(ip, &resolved),
                Role::Innermost | Role::Caller => maker.frames(ip, &resolved),
            }
        })
    }
}

/// Maker of the texts.
#[derive(Clone, Copy)]
struct TextMaker {
    fields: Fields,
    has_inlines: bool,
}

impl TextMaker {
    /// Returns the end of a sample's line: the function that the code belongs to, the innermost source line.
    fn line(self, ip: u64, resolved: &Resolved) -> String {
        let ip_text = self.fields.ip.then(|| format!("{ip:x}"));
        let symbol = self.symbol(ip, resolved.frames.last(), resolved.start);
        // Code that stands for no line of its own belongs to the line that it was inlined into.
        let with_line = resolved.frames.iter().find(|frame| frame.srcline().is_some());
        let srcline = self.srcline(with_line);
        let parts: Vec<String> = [ip_text, symbol, srcline].into_iter().flatten().collect();
        parts.join(" ") + "\n"
    }

    /// Returns one line of a call chain for each function at an address, innermost first.
    fn frames(self, ip: u64, resolved: &Resolved) -> String {
        let mut lines = String::new();
        let inlines = resolved.frames.iter().filter(|frame| frame.is_inlined && self.has_inlines);
        for frame in inlines {
            self.frame(ip, Some(frame), None, &mut lines);
        }
        self.frame(ip, resolved.frames.last(), resolved.start, &mut lines);
        lines
    }

    fn frame(self, ip: u64, frame: Option<&SourceFrame>, start: Option<u64>, lines: &mut String) {
        let ip_text = self.fields.ip.then(|| format!("{ip:16x}"));
        let symbol = self.symbol(ip, frame, start);
        let inlined = frame.filter(|frame| frame.is_inlined).map(|_| "(inlined)".to_owned());
        let parts = [ip_text, symbol, self.srcline(frame), inlined];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        lines.push('\t');
        lines.push_str(&parts.join(" "));
        lines.push('\n');
    }

    fn symbol(self, ip: u64, frame: Option<&SourceFrame>, start: Option<u64>) -> Option<String> {
        let mut symbol = String::new();
        if self.fields.sym {
            symbol.push_str(frame.map_or(UNKNOWN, |frame| &frame.function));
        }
        if let Some(start) = start.filter(|_| self.fields.symoff) {
            // Writing to a string can't fail.
            let _ = write!(symbol, "+{:#x}", ip.wrapping_sub(start));
        }
        (!symbol.is_empty()).then_some(symbol)
    }

    fn srcline(self, frame: Option<&SourceFrame>) -> Option<String> {
        let srcline = frame.and_then(SourceFrame::srcline);
        srcline.filter(|_| self.fields.srcline).map(|srcline| format!("({srcline})"))
    }
}
