//! Experiments on page faults, and on the signals of those that end badly.

use crate::experiment::Experiment;

mod disk;
mod paging;
mod path;
mod signals;

pub(super) const FAMILY: &[&[Experiment]] = &[signals::ALL, paging::ALL, path::ALL, disk::ALL];
