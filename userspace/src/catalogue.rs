//! Catalogue: the claims as the files of `claims/` list them, complete and free of contradictions, or refused; pure.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::claim::{Claim, ClaimId, Exception, Expected};
use crate::experiment::Experiment;

/// All claims in the order in which they are run and reported.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// The documents that make the claims.
    #[serde(default, rename = "document")]
    pub documents: Vec<Document>,
    /// The families of claims.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    /// The claims.
    #[serde(default, rename = "claim")]
    pub claims: Vec<Claim>,
}

/// A file with a part of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct ClaimsFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its content, TOML.
    pub text: &'a str,
}

/// A document that makes claims.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The number by which sources refer to it.
    pub number: String,
    /// What it calls itself, in English.
    pub title: String,
}

/// A family of claims.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The first word of the claims' ids.
    pub name: String,
    /// The heading in reports.
    pub title: String,
}

/// Why a catalogue was refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, a key too many or too few, or a value of the wrong form.
    #[error("{file}: {source}")]
    Toml {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// No claims at all.
    #[error("there is no claim in it")]
    Empty,
    /// Two claims of one name.
    #[error("claim {0} is there twice")]
    Duplicate(ClaimId),
    /// A claim that contradicts itself or refers to something that does not exist.
    #[error("claim {id}: {problem}")]
    Claim {
        /// The claim.
        id: ClaimId,
        /// What is wrong with it.
        problem: String,
    },
    /// No claim by this name.
    #[error("there is no claim `{0}`; `mmapdemo list` shows those there are")]
    NoSuchClaim(String),
}

impl Catalogue {
    /// Reads and checks a catalogue; whatever the order of the files, claims come in the order of their groups.
    ///
    /// # Errors
    ///
    /// Names the claim and the problem if the catalogue cannot be trusted.
    pub fn parse(
        files: &[ClaimsFile<'_>],
        experiments: &[&Experiment],
    ) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        for file in files {
            catalogue.append(file)?;
        }
        catalogue.check(experiments)?;
        let groups = catalogue.groups.iter().map(|group| group.name.clone());
        let groups: Vec<_> = groups.collect();
        catalogue
            .claims
            .sort_by_key(|claim| groups.iter().position(|group| *group == claim.group));
        Ok(catalogue)
    }

    fn append(&mut self, file: &ClaimsFile<'_>) -> Result<(), CatalogueError> {
        let part: Self = toml::from_str(file.text).map_err(|source| CatalogueError::Toml {
            file: file.name.to_owned(),
            source: Box::new(source),
        })?;
        self.documents.extend(part.documents);
        self.groups.extend(part.groups);
        self.claims.extend(part.claims);
        Ok(())
    }

    fn check(&self, experiments: &[&Experiment]) -> Result<(), CatalogueError> {
        if self.claims.is_empty() {
            return Err(CatalogueError::Empty);
        }
        let mut seen = HashSet::new();
        for claim in &self.claims {
            if !seen.insert(claim.id.clone()) {
                return Err(CatalogueError::Duplicate(claim.id.clone()));
            }
            let problem = self.problem_with(claim, experiments);
            if let Some(problem) = problem {
                return Err(CatalogueError::Claim {
                    id: claim.id.clone(),
                    problem,
                });
            }
        }
        Ok(())
    }

    fn problem_with(&self, claim: &Claim, experiments: &[&Experiment]) -> Option<String> {
        if !self.groups.iter().any(|group| group.name == claim.group) {
            return Some(format!("there is no group `{}`", claim.group));
        }
        if !claim.id.as_str().starts_with(&format!("{}-", claim.group)) {
            return Some(format!(
                "its id does not begin with its group `{}`",
                claim.group
            ));
        }
        if !experiments
            .iter()
            .any(|experiment| experiment.name == claim.experiment)
        {
            return Some(format!("there is no experiment `{}`", claim.experiment));
        }
        if claim.sources.is_empty() || claim.authority.is_empty() {
            return Some("it needs at least one source and one authority".to_owned());
        }
        let known = |number: &str| {
            self.documents
                .iter()
                .any(|document| document.number == number)
        };
        if let Some(source) = claim.sources.iter().find(|source| !known(&source.document)) {
            return Some(format!("there is no document {}", source.document));
        }
        if let Some(problem) = claim.exceptions.iter().find_map(Exception::problem) {
            return Some(problem.to_owned());
        }
        claim.versions().find_map(|it| unreachable_expectation(&it))
    }

    /// The claim of this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn find(&self, id: &str) -> Result<&Claim, CatalogueError> {
        let claim = self.claims.iter().find(|claim| claim.id.as_str() == id);
        claim.ok_or_else(|| CatalogueError::NoSuchClaim(id.to_owned()))
    }

    /// The claims of these names in the catalogue's order; all claims if no name is given.
    ///
    /// # Errors
    ///
    /// If a name is not in the catalogue.
    pub fn select(&self, ids: &[String]) -> Result<Vec<&Claim>, CatalogueError> {
        for id in ids {
            self.find(id)?;
        }
        let wanted =
            |claim: &&Claim| ids.is_empty() || ids.iter().any(|id| id == claim.id.as_str());
        Ok(self.claims.iter().filter(wanted).collect())
    }
}

/// A claim whose predictions can never lead to a verdict that it expects was written down wrongly.
fn unreachable_expectation(claim: &Claim) -> Option<String> {
    if claim.predicts.is_empty() && claim.sightings.is_empty() {
        return Some("it predicts nothing".to_owned());
    }
    let expected = claim.expected;
    let missing = match expected {
        Expected::Holds => return None,
        Expected::HoldsWithQualification if claim.to_the_letter.is_empty() => "to_the_letter",
        Expected::False if claim.predicts.is_empty() => "predicts",
        _ if claim.instead.is_empty() => "instead",
        _ => return None,
    };
    Some(format!("it expects \"{expected}\" and has no `{missing}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Evidence;

    const EXPERIMENT: Experiment = Experiment {
        name: "look",
        summary: "looks",
        run: |_| Ok(Evidence::new()),
    };

    const HEAD: &str = r#"
        document = [{ number = "001", title = "A document" }]
        group = [{ name = "shared", title = "Sharing" }]
    "#;

    const CLAIM: &str = r#"
        [[claim]]
        id = "shared-it-is"
        group = "shared"
        statement = "It is shared."
        sources = ["001 §4.2"]
        object = "device"
        expected = "holds"
        authority = ["mmap(2), MAP_SHARED"]
        experiment = "look"
        needs = ["device"]
        predicts = ["a.b == c.d"]
        why = "Because."
    "#;

    fn parse(claims: &str) -> Result<Catalogue, String> {
        let file = |name, text| ClaimsFile { name, text };
        let files = [file("head.toml", HEAD), file("claims.toml", claims)];
        Catalogue::parse(&files, &[&EXPERIMENT]).map_err(|e| e.to_string())
    }

    #[test]
    fn a_complete_claim_is_accepted() {
        assert_eq!(parse(CLAIM).unwrap().claims.len(), 1);
    }

    #[test]
    fn no_claims_are_no_catalogue() {
        assert_eq!(parse("").unwrap_err(), "there is no claim in it");
    }

    #[test]
    fn the_file_with_the_mistake_is_named() {
        let error = parse("[[claim]").unwrap_err();
        assert!(error.starts_with("claims.toml: "), "{error}");
    }

    #[test]
    fn a_duplicate_is_refused() {
        let error = parse(&format!("{CLAIM}{CLAIM}")).unwrap_err();
        assert_eq!(error, "claim shared-it-is is there twice");
    }

    #[test]
    fn every_field_must_be_there() {
        for line in CLAIM.lines().filter(|line| line.contains(" = ")) {
            let error = parse(&CLAIM.replace(line, "")).unwrap_err();
            let key = line.trim().split(' ').next().unwrap();
            let named = error.contains(key) || error.contains("predicts nothing");
            assert!(named, "without {key}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = parse(&CLAIM.replace("why =", "reason = \"x\"\nwhy =")).unwrap_err();
        assert!(error.contains("reason"), "{error}");
    }

    #[test]
    fn references_must_lead_somewhere() {
        for (from, to, complaint) in [
            ("\"look\"", "\"guess\"", "no experiment `guess`"),
            ("001 §4.2", "009 §4.2", "no document 009"),
            ("group = \"shared\"", "group = \"api\"", "no group `api`"),
            (
                "id = \"shared-it-is\"",
                "id = \"private-it-is\"",
                "does not begin with its group",
            ),
            ("[\"device\"]", "[\"luck\"]", "luck"),
            ("a.b == c.d", "a.b ~ c.d", "not an operator"),
            ("\"holds\"", "\"mostly\"", "mostly"),
        ] {
            let error = parse(&CLAIM.replace(from, to)).unwrap_err();
            assert!(error.contains(complaint), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn an_expectation_that_no_evidence_can_meet_is_refused() {
        let error = parse(&CLAIM.replace("\"holds\"", "\"false\"")).unwrap_err();
        assert!(error.contains("has no `instead`"), "{error}");
        let error = parse(&CLAIM.replace("\"holds\"", "\"holds-with-qualification\"")).unwrap_err();
        assert!(error.contains("has no `to_the_letter`"), "{error}");
    }

    #[test]
    fn selection_keeps_the_order_of_the_catalogue() {
        let two = format!("{CLAIM}{}", CLAIM.replace("shared-it-is", "shared-it-was"));
        let catalogue = parse(&two).unwrap();
        let both = ["shared-it-was".to_owned(), "shared-it-is".to_owned()];
        let ids: Vec<_> = catalogue
            .select(&both)
            .unwrap()
            .iter()
            .map(|c| c.id.as_str())
            .collect();
        assert_eq!(ids, ["shared-it-is", "shared-it-was"]);
        assert!(catalogue.select(&["shared-nothing".to_owned()]).is_err());
    }
}
