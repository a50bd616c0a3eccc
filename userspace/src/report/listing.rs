//! Listing: the claims of a catalogue under the titles of their groups; pure.

use std::fmt::Write;

use crate::catalogue::Catalogue;
use crate::claim::Claim;
use crate::report::style::{Mark, Style};

/// The names of the claims that are wanted, one a line.
#[must_use]
pub fn ids(catalogue: &Catalogue, wanted: impl Fn(&Claim) -> bool) -> String {
    let mut text = String::new();
    for claim in catalogue.claims.iter().filter(|claim| wanted(claim)) {
        let _ = writeln!(text, "{}", claim.id);
    }
    text
}

/// The claims that are wanted, one a line, and the documents to which their sources refer.
#[must_use]
pub fn render(catalogue: &Catalogue, wanted: impl Fn(&Claim) -> bool, style: Style) -> String {
    let mut text = String::new();
    for group in &catalogue.groups {
        let of_group = |claim: &&Claim| claim.group == group.name && wanted(claim);
        let inside: Vec<_> = catalogue.claims.iter().filter(of_group).collect();
        if inside.is_empty() {
            continue;
        }
        let title = format!("{} ({})", group.title, inside.len());
        let _ = writeln!(text, "{}", style.mark(Mark::Heading, &title));
        for Claim {
            id,
            object,
            expected,
            statement,
            ..
        } in inside
        {
            let expected = style.mark((*expected).into(), &format!("{expected:24}"));
            let _ = writeln!(text, "  {expected}  {object:9}  {id:40}  {statement}");
        }
        text.push('\n');
    }
    let documents = catalogue.documents.iter();
    for document in documents {
        let line = format!("document {}: {}", document.number, document.title);
        let _ = writeln!(text, "{}", style.mark(Mark::Faint, &line));
    }
    text
}
