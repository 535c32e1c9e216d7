//! User programs to run: from `--program` to the boot module.
//!
//! A program is the path of an ELF file, or `example:NAME` for one that this executable carries; its arguments follow
//! in the same flag, separated by spaces, or after `--` where there is one program only. What can't be run is refused
//! here, with the same words as the kernel would use.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use nmiprof_program::{Image, archive};
use nmiprof_wire::BuildId;

use crate::capture::clean;
use crate::commands::Error;
use crate::images::{EXAMPLES, Example};
use crate::symbols::keep;

const EXAMPLE_PREFIX: &str = "example:";

/// Programs, packed for the kernel.
#[derive(Debug, Default)]
pub(in crate::commands) struct Packed {
    /// The boot module; empty without programs.
    pub(in crate::commands) module: Vec<u8>,
    /// Programs that the capture's reader would not find by itself.
    to_keep: Vec<(BuildId, Vec<u8>)>,
}

impl Packed {
    /// Packs the programs of `commands`; `arguments` are added to the only one.
    ///
    /// # Errors
    /// [`Error::Usage`] says what can't be run, and why.
    pub(in crate::commands) fn new(commands: &[String], arguments: &[String]) -> Result<Self, Error> {
        if !arguments.is_empty() && commands.len() != 1 {
            return Err(Error::Usage(format!(
                "arguments after -- go to one program, and there are {}; write them into --program instead, as in \
                 --program 'example:sieve 6 10'",
                commands.len()
            )));
        }
        let mut packed = Self::default();
        for (number, command) in commands.iter().enumerate() {
            packed.push(number, command, arguments)?;
        }
        if !commands.is_empty() {
            archive::finish(&mut packed.module).map_err(|error| Error::Usage(error.to_string()))?;
        }
        Ok(packed)
    }

    fn push(&mut self, number: usize, command: &str, arguments: &[String]) -> Result<(), Error> {
        let refused = |why: String| Error::Usage(format!("--program {}: {why}", clean(command)));
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let path = *words.first().ok_or_else(|| refused("it names no program".to_owned()))?;
        let elf = read(path).map_err(&refused)?;
        let image = Image::parse(&elf).map_err(|error| refused(error.to_string()))?;
        if let (Cow::Owned(elf), Some(id)) = (&elf, image.build_id) {
            self.to_keep.push((BuildId(id), elf.clone()));
        }
        words[0] = name_of(path);
        words.extend(arguments.iter().map(String::as_str));
        archive::push(&mut self.module, number, &words, &elf).map_err(|error| refused(error.to_string()))
    }

    /// Keeps what a reader of the capture will need beside it.
    ///
    /// # Errors
    /// [`Error::Output`] where that can't be written.
    pub(in crate::commands) fn keep_beside(&self, capture: &Path) -> Result<(), Error> {
        let mut programs = self.to_keep.iter();
        programs
            .try_for_each(|(id, elf)| keep(capture, id, elf))
            .map_err(|source| Error::output(capture, source))
    }
}

/// Reads a program.
fn read(path: &str) -> Result<Cow<'static, [u8]>, String> {
    let Some(name) = path.strip_prefix(EXAMPLE_PREFIX) else {
        return fs::read(path).map(Cow::Owned).map_err(|error| format!("can't read the file: {error}"));
    };
    Example::find(name).map(|example| Cow::Borrowed(example.elf)).ok_or_else(|| {
        let known: Vec<_> = EXAMPLES.iter().map(|example| example.name).collect();
        format!("there is no such example; known: {}", known.join(", "))
    })
}

/// Returns what a program is called: the last part of its path.
fn name_of(path: &str) -> &str {
    let name = path.strip_prefix(EXAMPLE_PREFIX).unwrap_or(path);
    Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(commands: &[&str], arguments: &[&str]) -> Result<Packed, Error> {
        let [commands, arguments] = [commands, arguments]
            .map(|texts| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        Packed::new(&commands, &arguments)
    }

    fn error(commands: &[&str], arguments: &[&str]) -> String {
        pack(commands, arguments).expect_err("it can't be run").to_string()
    }

    #[test]
    fn programs_and_their_arguments_reach_the_module() {
        let packed = pack(&["example:sieve 5", "example:tree"], &[]).expect("both exist");
        let programs: Vec<_> =
            archive::programs(&packed.module).map(|program| program.expect("a sound archive")).collect();
        let arguments: Vec<Vec<&[u8]>> =
            programs.iter().map(|program| program.arguments().collect()).collect();
        assert_eq!(arguments, [vec![&b"sieve\0"[..], b"5\0"], vec![b"tree\0"]]);
        assert_eq!(programs[1].elf, Example::find("tree").expect("it exists").elf);
        assert!(packed.to_keep.is_empty(), "this executable carries them");
        let packed = pack(&["example:sieve"], &["5", "a b"]).expect("it exists");
        let program = archive::programs(&packed.module).next().expect("one").expect("a sound archive");
        assert_eq!(program.arguments().collect::<Vec<_>>(), [&b"sieve\0"[..], b"5\0", b"a b\0"]);
    }

    #[test]
    fn what_cant_be_run_is_refused_with_the_reason() {
        assert!(error(&["example:none"], &[]).contains("sieve, tree"));
        assert!(error(&["/nonexistent"], &[]).contains("can't read"));
        assert!(error(&["example:sieve", "example:tree"], &["5"]).contains("--program 'example:sieve"));
        assert!(error(&[""], &[]).contains("no program"));
        let own = std::env::current_exe().expect("this test");
        let text = error(&[own.to_str().expect("a plain path")], &[]);
        assert!(text.contains("link it statically"), "{text}");
    }

    #[test]
    fn a_file_of_the_users_is_kept_beside_the_capture() {
        let directory = tempfile::tempdir().expect("room");
        let path = directory.path().join("mine");
        fs::write(&path, Example::find("sieve").expect("it exists").elf).expect("room");
        let packed = pack(&[path.to_str().expect("a plain path")], &[]).expect("a program");
        packed.keep_beside(&directory.path().join("data")).expect("room");
        let kept: Vec<_> = fs::read_dir(directory.path().join("data.programs")).expect("made").collect();
        assert_eq!(kept.len(), 1);
    }
}
