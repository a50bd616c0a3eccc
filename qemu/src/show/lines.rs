//! Lines: text broken into those that fit.

use std::borrow::Cow;

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Without what would move the cursor or change colours.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).collect()
}

/// Text in lines of at most so many characters, broken between words, and inside those that are longer.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let text = printable(text);
    let lines = textwrap::wrap(&text, options).into_iter();
    lines.map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_inside_long_ones() {
        assert_eq!(wrapped("present, read-only", 12), ["present,", "read-only"]);
        assert_eq!(wrapped("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(
            wrapped("\u{2514}\u{2500}\u{25b6} 0x1", 7),
            ["\u{2514}\u{2500}\u{25b6} 0x1"]
        );
        assert_eq!(wrapped("a\x1b[2Jb", 5), ["a[2Jb"]);
    }
}
