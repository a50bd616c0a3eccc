//! Software: programs of others, of which only their documentation is tried.

use crate::evidence::Evidence;
use crate::experiment::Experiment;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "elsewhere",
    summary: "None here: it would take the program itself. What the claim would predict is written down; what is said \
              about it comes from the program's documentation.",
    run: |_| Ok(Evidence::new()),
}];
