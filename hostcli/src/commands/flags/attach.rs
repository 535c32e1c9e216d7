//! Flags that name the line of a target that runs already.

use std::time::Duration;

use super::values::seconds_or_none;
use crate::attach::Address;

/// Flags that name the line of a target that runs already, in place of a machine to boot.
#[derive(Clone, Debug, clap::Args)]
pub struct AttachArgs {
    /// Boot nothing: attach to the target at this serial port, such as /dev/ttyUSB0@115200 (8N1; 115200 unless named).
    /// The recording ends with the run, by Ctrl-C, or after --duration, which is host time then
    #[arg(long, value_name = "DEVICE[@BAUD]", value_parser = Address::parse_port, conflicts_with = "input")]
    pub port: Option<Address>,

    /// Boot nothing: attach to the target at this socket, which its emulator or a terminal server listens on;
    /// as --port
    #[arg(short, long, value_name = "unix:PATH|tcp:HOST:PORT", value_parser = Address::parse_socket)]
    pub input: Option<Address>,

    /// With --port or -i: how long a line that was lost is waited for; 0 is not at all
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = seconds_or_none)]
    pub reconnect: Duration,
}

impl AttachArgs {
    /// Returns the line to attach to; `None` where a machine is to be booted.
    pub(in crate::commands) fn address(&self) -> Option<&Address> {
        self.port.as_ref().or(self.input.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    #[test]
    fn one_line_may_be_named_in_one_way() {
        let args: AttachArgs = parse(&["--port", "/dev/ttyS0@9600"]).expect("sound flags");
        assert!(matches!(args.address(), Some(Address::Port { baud: 9600, .. })));
        let args: AttachArgs = parse(&["-i", "tcp:localhost:7", "--reconnect", "0"]).expect("sound flags");
        assert_eq!(
            (args.address(), args.reconnect),
            (Some(&Address::Tcp("localhost:7".into())), Duration::ZERO)
        );
        assert_eq!(parse::<AttachArgs>(&[]).expect("none is fine").address(), None);
        for words in
            [&["--port", "/dev/ttyS0", "-i", "unix:a"][..], &["-i", "nmiprof.data"], &["--reconnect", "-1"]]
        {
            assert!(parse::<AttachArgs>(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_file_is_refused_with_who_reads_it() {
        let error = parse::<AttachArgs>(&["-i", "nmiprof.data"]).expect_err("a file").to_string();
        assert!(error.contains("unix:PATH") && error.contains("report"), "{error}");
    }
}
