//! From the text of a flag to its value.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use nmiprof_wire::CpuList;

/// Returns a parser that lists the names of all values in the help and in errors.
pub(in crate::commands) fn choice<T>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + FromStr<Err = &'static str> + Send + Sync + 'static,
{
    let names = all.iter().map(|value| name(*value));
    PossibleValuesParser::new(names).try_map(|word| word.parse::<T>())
}

/// Returns the same parser with a description of every value in the long help.
pub(in crate::commands) fn described<T>(
    all: &'static [(T, &'static str)],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + FromStr<Err = &'static str> + Send + Sync + 'static,
{
    let values = all.iter().map(|(value, about)| PossibleValue::new(name(*value)).help(*about));
    PossibleValuesParser::new(values).try_map(|word| word.parse::<T>())
}

pub(super) fn on_off() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|word| word == "on")
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds, such as 2.5".to_owned())?;
    let duration = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    let is_representable = !duration.is_zero() && u64::try_from(duration.as_nanos()).is_ok();
    is_representable.then_some(duration).ok_or_else(|| "out of range: above 0, below 585 years".to_owned())
}

/// Accepts a number of seconds, or 0.
pub(super) fn seconds_or_none(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

/// Accepts what can be one word of the kernel command line.
pub(super) fn word(text: &str) -> Result<String, &'static str> {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    is_word.then(|| text.to_owned()).ok_or("expected a name without spaces")
}

/// Accepts a list of CPUs.
pub(super) fn cpu_list(text: &str) -> Result<String, String> {
    let list = CpuList::parse(text).ok().filter(|list| list.highest().is_some());
    list.map(|list| list.text().to_owned()).ok_or_else(|| "expected a list of CPUs such as 0,2-3".to_owned())
}

/// Accepts events that can be one word of the kernel command line.
pub(super) fn event_word(text: &str) -> Result<String, &'static str> {
    word(text).map_err(|_| "expected events separated by commas, without spaces")
}
