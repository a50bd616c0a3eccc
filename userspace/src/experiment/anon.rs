//! Experiments on anonymous memory.

use crate::experiment::Experiment;

mod dev_zero;
mod heap;
mod kinds;
mod pages;

pub(super) const FAMILY: &[&[Experiment]] = &[pages::ALL, heap::ALL, dev_zero::ALL, kinds::ALL];
