//! Experiments on what mapping costs.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
