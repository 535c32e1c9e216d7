//! The table that people read: one line for each combination, and below it what needs attention.

use std::io::{self, Write};

use crate::capture::clean;
use crate::sweep::Outcome;
use crate::sweep::pairs::Pairs;

/// Most missed boundaries and failed placements that are listed for each combination.
const LISTED_MAX: usize = 5;

/// Writes the table.
///
/// # Errors
/// What the writer says.
pub(super) fn write(outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<9} {:<5} {:<6} {:<6} {:>6} {:>9} {:>5} {:>5} {:>6} {:>6} {:>8} {:>11} {:>7}  verdict",
        "entry",
        "fault",
        "nested",
        "unmask",
        "masked",
        "reachable",
        "early",
        "hit",
        "missed",
        "runs",
        "failures",
        "pairs",
        "mutants"
    )?;
    outcomes.iter().try_for_each(|outcome| write_one(outcome, out))
}

fn write_one(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<9} {:<5} {:<6} {:<6} {:>6} {:>9} {:>5} {:>5} {:>6} {:>6} {:>8} {:>11} {:>7}  {}",
        outcome.entry,
        outcome.fault_return,
        outcome.nested_return,
        outcome.unmask,
        outcome.masked,
        outcome.reachable,
        outcome.early,
        outcome.hit,
        outcome.missed.len(),
        outcome.runs,
        outcome.failures,
        pairs(outcome),
        format!("{}/{}", outcome.mutants.caught, outcome.mutants.total),
        verdict(outcome)
    )?;
    if let Some(why) = &outcome.no_result {
        return writeln!(out, "    {}", clean(why));
    }
    if !outcome.sound {
        return Ok(());
    }
    write_findings(outcome, out)
}

/// Pairs of boundaries that were hit, of all that had to be.
fn pairs(outcome: &Outcome) -> String {
    if outcome.sound { format!("{}/{}", outcome.pairs.hit, outcome.pairs.total) } else { "-".to_owned() }
}

/// Says whether the claim about a combination holds.
pub(super) fn verdict(outcome: &Outcome) -> &'static str {
    match (outcome.is_as_claimed(), outcome.sound) {
        _ if outcome.no_result.is_some() => "NO RESULT",
        (true, true) => "sound",
        (true, false) => "unsound, and shown to fail",
        (false, true) => "FAIL",
        (false, false) => "FAIL: unsound, but nothing showed it",
    }
}

fn write_findings(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    if !outcome.failures_by_kind.is_empty() {
        let kinds = outcome.failures_by_kind.iter().map(|(kind, count)| format!("{kind} {count}"));
        writeln!(out, "    failures: {}", kinds.collect::<Vec<_>>().join(", "))?;
    }
    for missed in outcome.missed_boundaries.iter().take(LISTED_MAX) {
        let (address, place) = (missed.address, clean(&missed.place));
        writeln!(out, "    missed: {address} {place} (occurrence {})", missed.occurrence)?;
    }
    for failed in outcome.first_failures.iter().take(LISTED_MAX) {
        let at = failed.place.as_deref().or(failed.reason.as_deref()).unwrap_or_default();
        writeln!(out, "    failed: ticks {}: {}: {}", failed.ticks, failed.kinds.join(", "), clean(at))?;
    }
    for failed in outcome.failed_situations.iter().take(LISTED_MAX) {
        let case = failed.case.map(|case| format!(" case {case}")).unwrap_or_default();
        let reason = clean(failed.reason.as_deref().unwrap_or_default());
        writeln!(
            out,
            "    failed: dispatch {}{case}: {} {reason}",
            failed.dispatch,
            failed.kinds.join(", ")
        )?;
    }
    if !outcome.complete {
        writeln!(out, "    not every placement was done")?;
    }
    write_pairs(&outcome.pairs, out)?;
    let mutants = &outcome.mutants;
    for (what, names) in [("not caught", &mutants.survived), ("not built", &mutants.not_built)] {
        if !names.is_empty() {
            writeln!(out, "    mutants {what}: {}", names.join(", "))?;
        }
    }
    Ok(())
}

fn write_pairs(pairs: &Pairs, out: &mut dyn Write) -> io::Result<()> {
    if !pairs.failures_by_kind.is_empty() {
        let kinds = pairs.failures_by_kind.iter().map(|(kind, count)| format!("{kind} {count}"));
        writeln!(out, "    failures of {} pairs: {}", pairs.runs, kinds.collect::<Vec<_>>().join(", "))?;
    }
    for missed in pairs.missed.iter().take(LISTED_MAX) {
        let (second, third) = (clean(&missed.second_place), clean(&missed.third_place));
        writeln!(out, "    missed pair: {second}, then {third} in the {} run", missed.run)?;
    }
    for failed in pairs.first_failures.iter().take(LISTED_MAX) {
        let at = failed.reason.clone().unwrap_or_else(|| failed.places.join(", then "));
        let (ticks, gap, kinds) = (failed.ticks, failed.gap, failed.kinds.join(", "));
        writeln!(out, "    failed pair: ticks {ticks}, gap {gap}: {kinds}: {}", clean(&at))?;
    }
    if !pairs.complete {
        writeln!(out, "    not every pair was done")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Combination;
    use crate::sweep::outcome::FailedSituation;

    fn text(sound: bool, change: impl Fn(&mut Outcome)) -> String {
        let combination = Combination::all().into_iter().find(|one| one.is_sound() == sound);
        let mut outcome = Outcome::new(&combination.expect("there are both"));
        outcome.runs = 9;
        outcome.complete = true;
        outcome.pairs.complete = true;
        change(&mut outcome);
        let mut out = Vec::new();
        write(&[outcome], &mut out).expect("room");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_verdict_says_whether_the_claim_holds() {
        assert!(text(true, |_| {}).ends_with(" sound\n"));
        assert!(text(true, |outcome| outcome.failures = 1).contains(" FAIL\n"));
        assert!(text(false, |outcome| outcome.failures = 1).ends_with("shown to fail\n"));
        assert!(text(false, |_| {}).contains("nothing showed it"));
    }

    #[test]
    fn situations_that_failed_are_named() {
        let text = text(true, |outcome| {
            outcome.failures = 1;
            outcome.failed_situations.push(FailedSituation {
                dispatch: "walk-all",
                case: Some(45),
                kinds: vec!["dispatch"],
                reason: None,
            });
        });
        assert!(text.contains("    failed: dispatch walk-all case 45: dispatch"), "{text}");
    }

    #[test]
    fn what_has_no_result_says_why_and_can_not_drive_the_terminal() {
        let text = text(true, |outcome| outcome.no_result = Some("not\x1b[2J built".to_owned()));
        assert!(text.contains("NO RESULT\n    not\\u{1b}[2J built\n"), "{text}");
    }

    #[test]
    fn mutants_that_were_not_caught_are_named() {
        let text = text(true, |outcome| {
            outcome.mutants.total = 2;
            outcome.mutants.survived = vec!["no-gap-check"];
            outcome.mutants.not_built = vec!["save-again"];
        });
        assert!(
            text.contains("mutants not caught: no-gap-check\n    mutants not built: save-again\n"),
            "{text}"
        );
    }
}
