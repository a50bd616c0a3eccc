//! Experiments on the flags of mmap.

use crate::experiment::Experiment;

mod growth;
mod ignored;
mod lock;
mod placement;
mod populate;

pub(super) const FAMILY: &[&[Experiment]] = &[
    placement::ALL,
    ignored::ALL,
    lock::ALL,
    growth::ALL,
    populate::ALL,
];
