//! Experiments on memory without a file.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
