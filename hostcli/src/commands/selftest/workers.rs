//! Combinations in parallel: a few workers take one after the other, and tell how they get on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::sweep::{Combination, ExamineError};

/// Machines that run at the same time.
const WORKERS: usize = 2;

/// What a worker tells of the combination with an index.
#[derive(Debug)]
pub(super) enum News<P> {
    /// It begins with it.
    Started(usize),
    /// It got on with it.
    Progress(usize, P),
    /// It is done with it.
    Done(usize),
}

/// What comes from a worker.
enum Message<T, P> {
    News(News<P>),
    Result(usize, T),
    Failed(ExamineError),
}

/// Does `work` on every combination and returns the results in the same order. `work` is handed what takes its
/// progress, and `show` sees everything.
///
/// # Errors
/// The first of `work`; no further combination is begun then.
pub(super) fn run_all<T: Send, P: Send>(
    combinations: &[Combination],
    work: impl Fn(&Combination, &dyn Fn(P)) -> Result<T, ExamineError> + Sync,
    mut show: impl FnMut(&News<P>),
) -> Result<Vec<T>, ExamineError> {
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<T>> = combinations.iter().map(|_| None).collect();
    let mut failure = None;
    thread::scope(|scope| {
        let (sender, messages) = channel();
        for _ in 0..WORKERS {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || take_turns(combinations, next, work, &sender));
        }
        drop(sender);
        for message in messages {
            match message {
                Message::News(news) => show(&news),
                Message::Result(index, result) => {
                    show(&News::Done(index));
                    if let Some(slot) = results.get_mut(index) {
                        *slot = Some(result);
                    }
                }
                Message::Failed(error) => failure = failure.take().or(Some(error)),
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => results.into_iter().collect::<Option<_>>().ok_or(ExamineError::Thread),
    }
}

/// A worker's life: one combination after the other, until none is left or the host fails.
///
/// Each index is handed out once by the addition itself; nothing else is guarded by it, so Relaxed.
fn take_turns<T, P>(
    combinations: &[Combination],
    next: &AtomicUsize,
    work: &impl Fn(&Combination, &dyn Fn(P)) -> Result<T, ExamineError>,
    sender: &Sender<Message<T, P>>,
) {
    // A receiver that is gone belongs to a scope that is being left: there is nobody to tell.
    let tell = |message| drop(sender.send(message));
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(combination) = combinations.get(index) else { return };
        tell(Message::News(News::Started(index)));
        match work(combination, &|progress| tell(Message::News(News::Progress(index, progress)))) {
            Ok(result) => tell(Message::Result(index, result)),
            Err(error) => {
                next.store(combinations.len(), Ordering::Relaxed);
                return tell(Message::Failed(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_combinations_and_everything_is_shown() {
        let all = Combination::all();
        let (mut started, mut progress, mut done) = (0, 0, 0);
        let labels = run_all(
            &all,
            |combination, tell| {
                tell(2_u64);
                Ok(combination.label())
            },
            |news| match news {
                News::Started(_) => started += 1,
                News::Progress(_, step) => progress += step,
                News::Done(_) => done += 1,
            },
        );
        assert_eq!(labels.expect("no host fails"), all.iter().map(Combination::label).collect::<Vec<_>>());
        assert_eq!((started, progress, done), (all.len(), 2 * all.len() as u64, all.len()));
    }

    #[test]
    fn a_failure_ends_the_rest() {
        let all = Combination::all();
        let begun = AtomicUsize::new(0);
        let failed = run_all(
            &all,
            |_, _: &dyn Fn(())| {
                begun.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(ExamineError::Thread)
            },
            |_| {},
        );
        assert!(matches!(failed, Err(ExamineError::Thread)));
        assert!(begun.into_inner() <= WORKERS, "nobody begins another one");
    }
}
