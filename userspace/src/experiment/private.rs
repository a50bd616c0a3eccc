//! Experiments on private mappings and the copies that stores make.

use crate::experiment::Experiment;

mod copy;
mod privacy;

pub(super) const FAMILY: &[&[Experiment]] = &[privacy::ALL, copy::ALL];
