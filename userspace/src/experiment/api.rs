//! Experiments on calls: what they take, and what they refuse.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
