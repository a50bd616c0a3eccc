//! Experiments on what processes see of each other.

use crate::experiment::Experiment;

mod access;
mod contention;
mod disk;
mod identity;
mod lifetime;
mod tearing;
mod visibility;

pub(super) const FAMILY: &[&[Experiment]] = &[
    visibility::ALL,
    identity::ALL,
    access::ALL,
    lifetime::ALL,
    contention::ALL,
    tearing::ALL,
    disk::ALL,
];
