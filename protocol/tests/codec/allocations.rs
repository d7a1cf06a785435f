//! Counts what a thread allocates, to show that hostile frames stay cheap.

/// Runs `work` and says how many bytes it allocated, freed ones included.
pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let mut result = None;
    let spent = allocation_counter::measure(|| result = Some(work()));
    let bytes = usize::try_from(spent.bytes_total).expect("a size");
    (result.expect("work that is done"), bytes)
}
