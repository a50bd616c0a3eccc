//! Experiments with the tools that show mappings, and with programs that map.

use crate::experiment::Experiment;

mod look;
mod software;

pub(super) const FAMILY: &[&[Experiment]] = &[look::ALL, software::ALL];
