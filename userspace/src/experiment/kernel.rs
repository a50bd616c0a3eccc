//! Experiments on what the kernel does when memory is mapped, and on what it keeps about it.

use crate::experiment::Experiment;

mod area;
mod cache;
mod end;
mod leak;
mod path;
mod space;

pub(super) const FAMILY: &[&[Experiment]] = &[
    area::ALL,
    cache::ALL,
    end::ALL,
    leak::ALL,
    path::ALL,
    space::ALL,
];
