//! Experiments on what the kernel does and keeps.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
