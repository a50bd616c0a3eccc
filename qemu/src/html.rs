//! HTML: a document that is one file and asks nobody for anything.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Nothing may be loaded, whatever a name or a byte in the document tries.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// What all documents have in common: type, colours, tables.
const BASE: &str = include_str!("html/base.css");

/// The document with this style, this script and this body; both texts are the program's own.
#[must_use]
pub fn document(title: &str, style: &str, script: &str, body: &Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(BASE)) (PreEscaped(style)) }
            }
            body {
                (body)
                script { (PreEscaped(script)) }
            }
        }
    };
    document.into_string()
}
