//! Experiments on the limits of the whole system; they change its settings, so a boot of its own is theirs.

use crate::experiment::Experiment;

mod exhaustion;
mod huge;
mod overcommit;

pub(super) const FAMILY: &[&[Experiment]] = &[overcommit::ALL, exhaustion::ALL, huge::ALL];
