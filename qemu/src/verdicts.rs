//! Verdicts: everything that a run found about the claims, as one page; nothing here runs anything.

pub mod page;
pub mod plot;
pub mod results;
