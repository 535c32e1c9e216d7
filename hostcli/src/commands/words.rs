//! Flags from words in the program text, for commands that are made of other commands.

use clap::Parser;

use super::Error;

/// Parses `words` as the command line of a command does.
///
/// # Errors
/// [`Error::Usage`] as clap says it.
pub(super) fn parse<A: clap::Args>(words: &[&str]) -> Result<A, Error> {
    let words = ["nmiprof"].iter().chain(words);
    let parsed = Words::<A>::try_parse_from(words).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(parsed.args)
}

#[derive(Parser)]
struct Words<A: clap::Args> {
    #[command(flatten)]
    args: A,
}
