//! Experiments on limits and overcommit.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
