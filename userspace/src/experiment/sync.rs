//! Experiments on order between processes, and on what reaches the disk.

use crate::experiment::Experiment;

mod lock;
mod msync;
mod order;
mod sum;
mod writeback;

pub(super) const FAMILY: &[&[Experiment]] =
    &[msync::ALL, order::ALL, sum::ALL, lock::ALL, writeback::ALL];
