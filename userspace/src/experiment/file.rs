//! Experiments on mapped files.

use crate::experiment::Experiment;

mod block;
mod content;
mod end;
mod growth;
mod library;

pub(super) const FAMILY: &[&[Experiment]] = &[
    content::ALL,
    end::ALL,
    growth::ALL,
    block::ALL,
    library::ALL,
];
