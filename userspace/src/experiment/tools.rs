//! Experiments on tools and programs that the documents name.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
