//! Page: the catalogue of claims with its verdicts and its evidence, as one HTML document.

use maud::{Markup, html};

use super::plot;
use super::results::{Claim, Results, Trial, VERDICTS, Verdict};
use crate::html::document;

/// The whole document.
#[must_use]
pub fn render(results: &Results) -> String {
    let title = "What is true of mmap";
    let body = html! {
        a class="skip" href="#claims" { "To the claims" }
        header {
            h1 { (title) }
            p {
                (results.summary.planned) " claims that " (results.documents.len()) " documents make about mmap, put to the test on Linux "
                (results.kernel) ": " (results.summary.run) " were tried, " (results.summary.as_expected) " came out as expected, "
                (results.summary.not_as_expected) " did not, " (results.summary.skipped) " were skipped, "
                (results.summary.broke) " broke."
            }
            (bar(results))
            nav aria-label="Parts" {
                a href="#documents" { "By document" } " \u{b7} "
                a href="#nodes" { "Where the driver's nodes differ" } " \u{b7} "
                a href="#costs" { "What it costs" } " \u{b7} "
                a href="#claims" { "All claims, by verdict" }
            }
        }
        main {
            (documents(results))
            (nodes(results))
            (plot::all(results))
            (claims(results))
        }
    };
    document(
        title,
        include_str!("page.css"),
        include_str!("page.js"),
        &body,
    )
}

fn of(results: &Results, verdict: Verdict) -> Vec<&Claim> {
    let claims = results.claims.iter();
    claims.filter(|claim| claim.verdict() == verdict).collect()
}

/// How many claims have each verdict, as shares of a bar.
fn bar(results: &Results) -> Markup {
    let counts = VERDICTS.map(|verdict| (verdict, of(results, verdict).len()));
    html! {
        div class="bar" {
            @for (verdict, number) in counts.iter().filter(|(_, number)| *number > 0) {
                span style=(format!("flex: {number} 1 auto")) {
                    (verdict.mark().0) " " strong { (number) } " " (verdict.words())
                }
            }
        }
    }
}

fn badge(verdict: Verdict) -> Markup {
    let (mark, class) = verdict.mark();
    html! { span class=(format!("badge {class}")) { (mark) " " (verdict.words()) } }
}

fn link(claim: &Claim) -> Markup {
    html! { a href=(format!("#{}", claim.id)) { (claim.statement) } }
}

/// For each document, how its claims came out, and which they are.
fn documents(results: &Results) -> Markup {
    let made_by = |number: &str| {
        let claims = results.claims.iter();
        claims
            .filter(|claim| claim.documents().contains(&number))
            .collect::<Vec<_>>()
    };
    html! {
        section id="documents" aria-labelledby="documents-title" {
            h2 id="documents-title" { "By document" }
            @for document in &results.documents {
                @let claims = made_by(&document.number);
                details {
                    summary {
                        strong { (document.number) " " (document.title) } ": " (nr_claims(claims.len())) ", "
                        @for (nr, verdict) in VERDICTS.iter().enumerate() {
                            @let number = claims.iter().filter(|claim| claim.verdict() == *verdict).count();
                            @if number > 0 {
                                @if nr > 0 { " " }
                                span { (verdict.mark().0) "\u{a0}" (number) "\u{a0}" (verdict.words().to_lowercase()) }
                            }
                        }
                    }
                    div class="scroll" {
                        table {
                            thead { tr { th scope="col" { "verdict" } th scope="col" { "claim" } th scope="col" { "where" } } }
                            tbody {
                                @for claim in claims {
                                    @let here: Vec<_> = claim.sources.iter().filter(|it| it.starts_with(&document.number)).cloned().collect();
                                    tr { td { (badge(claim.verdict())) } td { (link(claim)) } td { (here.join("; ")) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn nr_claims(number: usize) -> String {
    match number {
        1 => "1 claim".to_owned(),
        _ => format!("{number} claims"),
    }
}

/// The claims of which the verdict depends on how the driver maps its page.
fn nodes(results: &Results) -> Markup {
    let claims = results.claims.iter();
    let claims: Vec<_> = claims.filter(|claim| claim.depends_on_the_node()).collect();
    html! {
        section id="nodes" aria-labelledby="nodes-title" {
            h2 id="nodes-title" { "Where the driver's nodes differ" }
            p {
                "The driver has one page and three nodes: by vm_insert_page() and by remap_pfn_range() the page is mapped when mmap is called, by a "
                "fault handler when it is touched. The verdict depends on that: " (nr_claims(claims.len())) "."
            }
            @if !claims.is_empty() {
                div class="scroll" {
                    table {
                        thead { tr { th scope="col" { "claim" } @for node in ["insert", "pfn", "fault"] { th scope="col" { (node) } } } }
                        tbody {
                            @for claim in claims {
                                tr {
                                    th scope="row" { (link(claim)) }
                                    @for node in ["insert", "pfn", "fault"] {
                                        td { @if let Some(trial) = claim.trials.iter().find(|it| it.node.as_deref() == Some(node)) { (said(trial)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The verdict of a trial, or why there is none.
fn said(trial: &Trial) -> Markup {
    html! {
        @if trial.verdict() == Verdict::NotJudged {
            span class="badge not-judged" { "\u{2013} " (trial.result) }
        } @else {
            (badge(trial.verdict()))
        }
        @if trial.as_expected == Some(false) { " " span class="wrong" { "not as expected" } }
    }
}

fn claims(results: &Results) -> Markup {
    html! {
        section id="claims" aria-labelledby="claims-title" {
            h2 id="claims-title" { "All claims, by verdict" }
            (filters(results))
            @for verdict in VERDICTS {
                @let claims = of(results, verdict);
                @if !claims.is_empty() {
                    section class="verdict" {
                        h3 { (verdict.words()) " (" (claims.len()) ")" }
                        @for claim in claims { (self::claim(claim)) }
                    }
                }
            }
        }
    }
}

fn filters(results: &Results) -> Markup {
    html! {
        form class="filters" id="filters" role="search" {
            label { "Words, anywhere in a claim and its evidence" input type="search" name="words"; }
            label {
                "Document"
                select name="document" {
                    option value="" { "all" }
                    @for document in &results.documents { option value=(document.number) { (document.number) " " (document.title) } }
                }
            }
            label {
                "Verdict"
                select name="verdict" {
                    option value="" { "all" }
                    @for verdict in VERDICTS { option value=(verdict.mark().1) { (verdict.words()) } }
                }
            }
            label {
                "Group"
                select name="group" {
                    option value="" { "all" }
                    @for group in &results.groups { option value=(group.name) { (group.title) } }
                }
            }
            label class="only" { input type="checkbox" name="differ"; "Only where the driver's nodes differ" }
            span role="status" {}
        }
    }
}

fn claim(claim: &Claim) -> Markup {
    let differ = if claim.depends_on_the_node() {
        "yes"
    } else {
        "no"
    };
    html! {
        details class="claim" id=(claim.id) data-verdict=(claim.verdict().mark().1) data-group=(claim.group)
            data-documents=(claim.documents().join(" ")) data-differ=(differ) {
            summary {
                span { (claim.statement) }
                span {
                    (badge(claim.verdict()))
                    @if claim.standing == "not-as-expected" || claim.standing == "broke" { " " span class="wrong" { (claim.standing) } }
                }
                code class="id" { (claim.id) }
            }
            div {
                dl {
                    dt { "said by" } dd { (claim.sources.join("; ")) }
                    dt { "about" } dd { (claim.object) }
                    dt { "decided by" } dd { (claim.authority.join("; ")) }
                    dt { "experiment" } dd { code { (claim.experiment) } ": " (claim.summary) }
                }
                @for trial in &claim.trials { (self::trial(trial)) }
            }
        }
    }
}

fn trial(trial: &Trial) -> Markup {
    html! {
        h4 {
            @if let Some(node) = &trial.node { "On the node " (node) ": " }
            (said(trial))
        }
        p { (trial.why) }
        @if let Some(reason) = &trial.reason { p class="quiet" { (reason) } }
        @if !trial.checks.is_empty() {
            div class="scroll" {
                table {
                    thead { tr { th scope="col" { "part" } th scope="col" { "prediction" } th scope="col" { "seen" } th scope="col" { "agrees" } } }
                    tbody {
                        @for check in &trial.checks {
                            tr {
                                td { (check.part) }
                                td { code { (check.prediction) } }
                                td { code { (check.seen.as_deref().unwrap_or("nothing")) } }
                                td { @match check.agrees { Some(true) => "\u{2713} yes", Some(false) => "\u{2717} no", None => "?" } }
                            }
                        }
                    }
                }
            }
        }
        @if !trial.evidence.is_empty() {
            details {
                summary { "All that was seen: " (trial.evidence.len()) " observations" }
                dl { @for fact in &trial.evidence { dt { code { (fact.label) } } dd { code { (fact.value) } } } }
            }
        }
    }
}
