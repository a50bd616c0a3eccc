//! Report: findings as text for people (terminal) and for programs (KTAP, JSON, JUnit XML).

pub mod calls;
pub mod explanation;
pub mod json;
pub mod junit;
pub mod ktap;
pub mod listing;
pub mod style;
pub mod terminal;
