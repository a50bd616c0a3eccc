//! Cost: copies, calls, faults, flushes, disk traffic and instructions.

use super::Experiment;

mod alignment;
mod channel;
mod copies;
mod messages;
mod reading;
mod shootdown;
mod steps;
mod traffic;
mod waiting;

pub(super) const FAMILY: &[&[Experiment]] = &[
    copies::ALL,
    reading::ALL,
    channel::ALL,
    traffic::ALL,
    shootdown::ALL,
    waiting::ALL,
    alignment::ALL,
];
