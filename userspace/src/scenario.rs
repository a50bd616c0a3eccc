//! Scenario: a few steps of one or two processes, recorded so closely that they can be drawn; and all there are.

use crate::boot::Boot;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment;
use crate::fixture::Fixture;
use crate::need::Need;

mod accidents;
mod disk;
mod faulting;
mod memory;
mod path;
mod placement;
mod privacy;
mod races;
pub mod recording;
mod sharing;
pub mod stage;

use recording::{Recording, Story};
use stage::Stage;

/// A scenario. It does things and has the stage write down what is there then.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// A headline.
    pub title: &'static str,
    /// What one may ask oneself before.
    pub question: &'static str,
    /// The claims that say the same.
    pub claims: &'static [&'static str],
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// The boots in which it has something to do, the first one first.
    pub boots: &'static [Boot],
    /// Plays it, as far as it belongs to the fixture's boot.
    pub play: fn(&Fixture, &mut Stage<'_>) -> Result<()>,
}

impl Scenario {
    /// What it takes, in words for whoever sets up the machine.
    #[must_use]
    pub fn requirements(&self) -> Vec<String> {
        let needs = self.needs.iter().map(|need| need.requirement());
        let boots = self.boots.iter().filter(|boot| **boot != Boot::Main);
        needs
            .chain(boots.map(|boot| format!("boot {boot}")))
            .collect()
    }
}

/// What nearly all take: the device, and the kernel's view of page tables and frames.
const USUAL: &[Need] = &[Need::Device, Need::Pagemap, Need::Root, Need::Btf];
/// The boot that most are played in.
const MAIN: &[Boot] = &[Boot::Main];

/// Every scenario there is, from the simple to the strange.
#[must_use]
pub fn all() -> Vec<&'static Scenario> {
    let families = [
        sharing::ALL,
        privacy::ALL,
        faulting::ALL,
        placement::ALL,
        races::ALL,
        accidents::ALL,
        path::ALL,
        disk::ALL,
        memory::ALL,
    ];
    families.into_iter().flatten().collect()
}

/// Those of these names, in their own order; all if none is given. The error is a name that there is not.
///
/// # Errors
///
/// If there is no such scenario.
pub fn select(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    let all = all();
    let known = |name: &&String| all.iter().any(|scenario| scenario.name == **name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        return Err(unknown.clone());
    }
    let wanted =
        |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(all.into_iter().filter(wanted).collect())
}

/// Plays in this boot what belongs to it, and adds it to what `earlier` boots recorded.
///
/// # Errors
///
/// If the lab broke.
pub fn record(
    scenarios: &[&Scenario],
    fixture: &Fixture,
    earlier: &Recording,
) -> Result<Recording> {
    let mut recording = Recording::new(&fixture.release);
    for scenario in scenarios {
        // Elsewhere there may be nothing of it.
        if fixture.boot == Boot::Main || scenario.boots.contains(&fixture.boot) {
            let begun = earlier.find(scenario.name);
            recording.scenarios.push(play(scenario, fixture, begun)?);
        }
    }
    Ok(recording)
}

fn play(scenario: &Scenario, fixture: &Fixture, begun: Option<&Story>) -> Result<Story> {
    let uses_device = scenario.needs.contains(&Need::Device);
    let mut story = Story {
        name: scenario.name.to_owned(),
        title: scenario.title.to_owned(),
        question: scenario.question.to_owned(),
        claims: scenario.claims.iter().map(ToString::to_string).collect(),
        node: fixture.strategy.filter(|_| uses_device),
        skipped: begun.and_then(|begun| begun.skipped.clone()),
        steps: begun.map_or_else(Vec::new, |begun| begun.steps.clone()),
    };
    let missed = scenario
        .boots
        .iter()
        .find(|boot| **boot != Boot::Main && fixture.boot == Boot::Main && story.steps.is_empty());
    let unmet = || scenario.needs.iter().find_map(|need| need.unmet(fixture));
    story.skipped = story
        .skipped
        .or_else(|| missed.map(|boot| boot.reason().to_owned()))
        .or_else(unmet);
    if story.skipped.is_none() && scenario.boots.contains(&fixture.boot) {
        let mut stage = Stage::new(fixture);
        (scenario.play)(fixture, &mut stage).map_err(|error| Error::Reported {
            who: format!("scenario {}", scenario.name),
            message: error.to_string(),
        })?;
        story.steps.extend(stage.into_steps());
    }
    Ok(story)
}

/// What an experiment sees here, of which the labels begin with `prefix`.
fn observe(fixture: &Fixture, experiment: &str, prefix: &str) -> Result<Evidence> {
    let seen = run(fixture, experiment)?;
    let mut kept = Evidence::new();
    for observation in seen.iter().filter(|it| it.label.starts_with(prefix)) {
        kept.note(observation.label.clone(), observation.value.clone());
    }
    Ok(kept)
}

/// What an experiment sees here.
fn run(fixture: &Fixture, experiment: &str) -> Result<Evidence> {
    let all = experiment::all();
    let found = all.iter().find(|it| it.name == experiment);
    let found = found.ok_or_else(|| Error::Garbled {
        what: experiment.to_owned(),
        detail: "there is no such experiment".to_owned(),
    })?;
    (found.run)(fixture)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::CLAIMS_OF_THE_DOCUMENTS;
    use crate::catalogue::Catalogue;

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn the_claims_that_scenarios_refer_to_exist() {
        let catalogue = Catalogue::parse(CLAIMS_OF_THE_DOCUMENTS, &experiment::all()).unwrap();
        for scenario in all() {
            assert!(!scenario.claims.is_empty(), "{}", scenario.name);
            for claim in scenario.claims {
                assert!(catalogue.find(claim).is_ok(), "{}: {claim}", scenario.name);
            }
        }
    }

    #[test]
    fn scenarios_come_in_their_own_order_and_an_unknown_one_is_named() {
        let last = all().last().unwrap().name;
        let first = all().first().unwrap().name;
        let chosen = select(&[last.to_owned(), first.to_owned()]).unwrap();
        let names: Vec<_> = chosen.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, [first, last]);
        assert_eq!(select(&["no-such".to_owned()]).unwrap_err(), "no-such");
    }
}
