//! Experiment: something done to memory on purpose, to see what happens; and the registry of all.

use crate::error::Result;
use crate::evidence::Evidence;
use crate::fixture::Fixture;

mod access;
mod contention;
mod copy;
mod identity;
mod lifetime;
mod paging;
mod privacy;
mod signals;
mod tearing;
mod visibility;

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
    let families: [&[Experiment]; 10] = [
        visibility::ALL,
        identity::ALL,
        access::ALL,
        lifetime::ALL,
        contention::ALL,
        tearing::ALL,
        privacy::ALL,
        copy::ALL,
        signals::ALL,
        paging::ALL,
    ];
    families.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::claims_of_the_documents;

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = all().iter().map(|experiment| experiment.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn every_experiment_serves_a_claim() {
        let catalogue = Catalogue::parse(claims_of_the_documents(), &all()).unwrap();
        for experiment in all() {
            let used = catalogue
                .claims
                .iter()
                .any(|claim| claim.experiment == experiment.name);
            assert!(used, "{} serves no claim", experiment.name);
        }
    }
}
