//! Experiments on the flags of mmap.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
