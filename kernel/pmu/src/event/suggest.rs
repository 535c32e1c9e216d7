//! The right word for a wrong one.
//!
//! Near is: the wrong word begins the right one, or few edits lead from one to the other. The edits are those of the
//! optimal string alignment distance (Damerau, "A technique for computer detection and correction of spelling
//! errors", CACM 1964): a character put in, left out, replaced, or swapped with its neighbour. That last one is what
//! fingers do most, and plain Levenshtein distance counts it twice. Case and `_` for `-` are no edits at all.

/// Longest word that is compared, in bytes; longer ones are like nothing.
const WORD_MAX_BYTES: usize = 32;

/// Fewest bytes that are enough to be taken for the beginning of a word.
const PREFIX_MIN_BYTES: usize = 3;

/// Distances of one beginning of the wrong word to all beginnings of the right one.
type Row = [usize; WORD_MAX_BYTES + 1];

/// Finds the candidate nearest to a word, if any is near enough: the first of the nearest ones.
pub(super) fn nearest(
    word: &str,
    candidates: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let rated = candidates.into_iter().filter_map(|candidate| Some((edits(word, candidate)?, candidate)));
    rated.min_by_key(|&(edits, _)| edits).map(|(_, candidate)| candidate)
}

/// Returns how far a word is from a candidate; `None`: too far to be meant.
fn edits(word: &str, candidate: &str) -> Option<usize> {
    let (word, candidate) = (word.as_bytes(), candidate.as_bytes());
    if word.len() > WORD_MAX_BYTES || candidate.len() > WORD_MAX_BYTES {
        return None;
    }
    let edits = distance(word, candidate);
    let edits_max = word.len().min(candidate.len()) / 3;
    (edits <= edits_max || begins(word, candidate)).then_some(edits)
}

/// Tells whether a word, long enough to mean something, begins a candidate.
fn begins(word: &[u8], candidate: &[u8]) -> bool {
    let pairs_match = word.iter().zip(candidate).all(|(&a, &b)| folded(a) == folded(b));
    (PREFIX_MIN_BYTES..=candidate.len()).contains(&word.len()) && pairs_match
}

/// Returns the optimal string alignment distance of two words that fit into a [`Row`].
fn distance(word: &[u8], candidate: &[u8]) -> usize {
    let mut row_before_last: Row = [0; WORD_MAX_BYTES + 1];
    let mut last_row: Row = core::array::from_fn(|column| column);
    let mut previous = None;
    for (index, &byte) in word.iter().enumerate() {
        let row = next_row((&row_before_last, &last_row), (previous, byte), candidate, index + 1);
        (row_before_last, last_row) = (last_row, row);
        previous = Some(byte);
    }
    last_row.get(candidate.len()).copied().unwrap_or(usize::MAX)
}

/// Returns the distances after one more byte of the word. `rows`: of two bytes and of one byte before.
fn next_row(rows: (&Row, &Row), bytes: (Option<u8>, u8), candidate: &[u8], row_index: usize) -> Row {
    let ((row_before_last, last_row), (previous, byte)) = (rows, bytes);
    let at = |row: &Row, column: usize| row.get(column).copied().unwrap_or(usize::MAX - 2);
    let mut row: Row = [row_index; WORD_MAX_BYTES + 1];
    for (column, &other) in candidate.iter().enumerate() {
        let replaced = at(last_row, column) + usize::from(folded(byte) != folded(other));
        let mut best = replaced.min(at(last_row, column + 1) + 1).min(at(&row, column) + 1);
        if let (Some(previous), Some(before)) = (previous, column.checked_sub(1)) {
            let is_swapped = candidate.get(before).is_some_and(|&it| folded(it) == folded(byte))
                && folded(previous) == folded(other);
            if is_swapped {
                best = best.min(at(row_before_last, before) + 1);
            }
        }
        if let Some(cell) = row.get_mut(column + 1) {
            *cell = best;
        }
    }
    row
}

/// Returns what a byte is compared as.
const fn folded(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}
