//! Experiments on page faults, and on the signals of those that end badly.

use crate::experiment::Experiment;

mod paging;
mod signals;

pub(super) const FAMILY: &[&[Experiment]] = &[signals::ALL, paging::ALL];
