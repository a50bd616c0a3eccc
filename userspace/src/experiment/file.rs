//! Experiments on mapped files.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
