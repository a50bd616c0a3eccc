//! Experiment: something done to memory on purpose, to see what happens; and the registry of all.

use crate::error::Result;
use crate::evidence::Evidence;
use crate::fixture::Fixture;

mod anon;
mod api;
mod fault;
mod file;
mod flags;
mod kernel;
mod limits;
mod perf;
mod private;
mod shared;
mod sync;
mod tools;

/// An experiment. It observes and never judges: a refused call is evidence, `Err` means the lab broke.
#[derive(Debug)]
pub struct Experiment {
    /// The name by which claims refer to it.
    pub name: &'static str,
    /// What it does, in one or two sentences.
    pub summary: &'static str,
    /// Does it.
    pub run: fn(&Fixture) -> Result<Evidence>,
}

/// Every experiment there is.
#[must_use]
pub fn all() -> Vec<&'static Experiment> {
    let families: [&[&[Experiment]]; 12] = [
        shared::FAMILY,
        private::FAMILY,
        fault::FAMILY,
        api::FAMILY,
        flags::FAMILY,
        sync::FAMILY,
        file::FAMILY,
        anon::FAMILY,
        kernel::FAMILY,
        perf::FAMILY,
        limits::FAMILY,
        tools::FAMILY,
    ];
    families
        .into_iter()
        .flat_map(|family| family.iter().copied().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::CLAIMS_OF_THE_DOCUMENTS;
    use crate::catalogue::Catalogue;

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = all().iter().map(|experiment| experiment.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn every_experiment_serves_a_claim() {
        let catalogue = Catalogue::parse(CLAIMS_OF_THE_DOCUMENTS, &all()).unwrap();
        for experiment in all() {
            let used = catalogue
                .claims
                .iter()
                .any(|claim| claim.experiment == experiment.name);
            assert!(used, "{} serves no claim", experiment.name);
        }
    }
}
