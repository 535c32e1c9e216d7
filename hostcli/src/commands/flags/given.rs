//! Which flags the user gave.
//!
//! A flag with a default looks the same whether it was given or not, and a command that can't honour it has to tell.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The long names of the flags that stood on the command line.
///
/// In a struct of flags it has to come first: reading a flag takes it out of what clap has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    ids: Vec<String>,
}

impl Given {
    /// Tells whether a flag was given.
    pub(in crate::commands) fn has(&self, id: &str) -> bool {
        self.ids.iter().any(|given| given == id)
    }

    /// Returns the first flag that was given and is not one of `allowed`, by its name in the code.
    pub(in crate::commands) fn other_than(&self, allowed: &[&str]) -> Option<&str> {
        self.ids.iter().map(String::as_str).find(|id| !allowed.contains(id))
    }
}

impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl clap::FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let ids = matches.ids().map(clap::Id::as_str);
        // Groups are named after structs; flags, after fields.
        let is_flag = |id: &&str| !id.starts_with(char::is_uppercase);
        Ok(Self { ids: ids.filter(is_flag).filter(|id| is_given(id)).map(str::to_owned).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    #[derive(Debug, clap::Args)]
    struct Flags {
        #[command(flatten)]
        given: Given,
        #[arg(long, default_value_t = 7)]
        size: u8,
        #[arg(short, long)]
        quiet: bool,
    }

    #[test]
    fn a_default_is_not_given_and_its_own_value_is() {
        let flags: Flags = parse(&["-q"]).expect("sound flags");
        assert_eq!((flags.given.other_than(&["quiet"]), flags.size, flags.quiet), (None, 7, true));
        assert_eq!(flags.given.other_than(&[]), Some("quiet"));
        let flags: Flags = parse(&["--size", "7"]).expect("sound flags");
        assert_eq!(flags.given.other_than(&["quiet"]), Some("size"));
    }
}
