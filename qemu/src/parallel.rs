//! Work on all processors, where the first failure stops the rest.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};

use crate::command::Cancelled;
use crate::failure::Failure;
use crate::interrupt;
use crate::stop::Stop;

/// Applies `work` to all `items`, the heaviest first, on as many threads as there are processors.
///
/// `weight` gives an item's share of the work; `work` also gets the weight that was begun before it.
/// The results come in the order of the items.
///
/// # Errors
///
/// The first failure; the others are told to stop, and waited for.
pub fn map<T: Sync, R: Send>(
    items: &[T],
    weight: impl Fn(&T) -> u64,
    stop: &Stop,
    work: impl Fn(&T, u64) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let mut order: Vec<(usize, u64)> = items.iter().map(weight).enumerate().collect();
    order.sort_by_key(|&(_, weight)| std::cmp::Reverse(weight));
    let (next, begun) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results = Mutex::new(Vec::new());
    let worker = || {
        while let Some(&(index, weight)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if interrupt::requested() {
                return Err(Failure::Interrupted("busy with the set-up".into()).into());
            }
            let result = work(&items[index], begun.fetch_add(weight, Ordering::Relaxed))?;
            results
                .lock()
                .map_err(|_| anyhow!("a worker died"))?
                .push((index, result));
        }
        Ok(())
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len());
    let workers: Vec<_> = (0..threads).map(|_| &worker as Job<'_>).collect();
    all(&workers, stop)?;
    let mut results = results.into_inner().map_err(|_| anyhow!("a worker died"))?;
    results.sort_by_key(|&(index, _)| index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// One of several jobs that run at once.
pub type Job<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// Runs `jobs` at once and waits for all of them.
///
/// # Errors
///
/// The first real failure; when a job fails, the others are told to stop.
pub fn all(jobs: &[Job<'_>], stop: &Stop) -> Result<()> {
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|job| {
                scope.spawn(move || {
                    let result = job();
                    if result.is_err() {
                        stop.request();
                    }
                    result
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|_| Err(anyhow!("a job of the lab panicked"))))
            .collect()
    });
    let mut failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    // A job that was merely told to stop has nothing to say about why.
    failures.sort_by_key(|failure| failure.root_cause().is::<Cancelled>());
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Runs two jobs at once and returns what both of them made.
///
/// # Errors
///
/// As [`all`].
pub fn both<A: Send, B: Send>(
    one: impl FnOnce() -> Result<A> + Send,
    other: impl FnOnce() -> Result<B> + Send,
    stop: &Stop,
) -> Result<(A, B)> {
    let (one, other) = (Once::new(one), Once::new(other));
    all(&[&|| one.run(), &|| other.run()], stop)?;
    Ok((one.result()?, other.result()?))
}

/// A job that runs once and keeps what it made.
struct Once<F, R>(Mutex<(Option<F>, Option<R>)>);

impl<R, F: FnOnce() -> Result<R>> Once<F, R> {
    fn new(job: F) -> Self {
        Self(Mutex::new((Some(job), None)))
    }

    fn run(&self) -> Result<()> {
        let mut slot = self
            .0
            .lock()
            .map_err(|_| anyhow!("a job of the lab panicked"))?;
        let job = slot
            .0
            .take()
            .ok_or_else(|| anyhow!("a job was run twice"))?;
        slot.1 = Some(job()?);
        Ok(())
    }

    fn result(self) -> Result<R> {
        let (_, result) = self
            .0
            .into_inner()
            .map_err(|_| anyhow!("a job of the lab panicked"))?;
        result.ok_or_else(|| anyhow!("a job was never run"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let stop = Stop::new().unwrap();
        let doubled = map(&[3_u64, 1, 2], |&item| item, &stop, |item, _| Ok(item * 2)).unwrap();
        assert_eq!(doubled, [6, 2, 4]);
        assert_eq!(
            map(&[] as &[u64], |_| 0, &stop, |item, _| Ok(*item)).unwrap(),
            [0_u64; 0]
        );
    }

    #[test]
    fn the_first_failure_stops_the_rest_and_is_the_one_reported() {
        let stop = Stop::new().unwrap();
        let fails = || Err(anyhow!("the reason"));
        let waits = || {
            let command = crate::command::HostCommand::new("wait for ever", "tail");
            command
                .args(["-f", "/dev/null"])
                .finish(&stop, |_, _| ())
                .map(drop)
        };
        let error = all(&[&waits, &fails], &stop).unwrap_err();
        assert_eq!(error.to_string(), "the reason");
    }
}
