//! Experiments on order between processes, and on what reaches the disk.

use crate::experiment::Experiment;

pub(super) const FAMILY: &[&[Experiment]] = &[];
