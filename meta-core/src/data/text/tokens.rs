//! From a text to its tokens.

use serde::{Deserialize, Serialize};

/// How a text is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Words, numbers and marks, of any script.
    Words,
    /// What stands between spaces: of texts that are cut already.
    Spaces,
}

impl Tokens {
    /// The tokens of a text in order.
    ///
    /// A word is a run of letters and digits (`char::is_alphanumeric`) with the marks on them. Before an
    /// apostrophe inside a word a new token begins, as in the Penn Treebank: `it's` is `it` `'s`, and
    /// `don't` is `do` `n't`. Every other character that is no space is a token by itself.
    pub(super) fn of(self, text: &str) -> Vec<&str> {
        match self {
            Tokens::Spaces => text.split_whitespace().collect(),
            Tokens::Words => words(text),
        }
    }
}

/// Whether a character continues a word: a letter, a digit, or a mark on one.
fn is_inside(character: char) -> bool {
    // Combining marks, and those between letters of Arabic and Indic scripts.
    let is_mark = matches!(character, '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
    character.is_alphanumeric() || is_mark
}

fn is_apostrophe(character: char) -> bool {
    matches!(character, '\'' | '\u{2019}')
}

fn words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = |end: usize| &rest[end..];
        if first.is_whitespace() {
            rest = after(first.len_utf8());
            continue;
        }
        // An apostrophe between letters begins the rest of its word.
        let inside = found.last().is_some_and(|last: &&str| {
            is_apostrophe(first)
                && std::ptr::eq(last.as_bytes().as_ptr_range().end, rest.as_ptr())
                && last.ends_with(is_inside)
                && after(first.len_utf8()).starts_with(char::is_alphabetic)
        });
        let start = if inside || is_inside(first) {
            first.len_utf8()
        } else {
            0
        };
        if start == 0 {
            let (mark, others) = rest.split_at(first.len_utf8());
            found.push(mark);
            rest = others;
            continue;
        }
        let length = rest[start..].find(|c| !is_inside(c));
        let (word, others) = rest.split_at(length.map_or(rest.len(), |length| start + length));
        // `don` and `'t` are `do` and `n't`.
        if inside && word[start..].eq_ignore_ascii_case("t") {
            let offset = text.len() - rest.len();
            if let Some(last) = found.last_mut()
                && last.len() > 1
                && last.ends_with(['n', 'N'])
            {
                let own: &str = last;
                *last = &text[offset - own.len()..offset - 1];
                found.push(&text[offset - 1..offset + word.len()]);
                rest = others;
                continue;
            }
        }
        found.push(word);
        rest = others;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::Tokens::{Spaces, Words};

    #[test]
    fn words_of_any_script() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t\n", &[]),
            ("What's up, Doc?", &["What", "'s", "up", ",", "Doc", "?"]),
            ("don't can\u{2019}t", &["do", "n't", "ca", "n\u{2019}t"]),
            ("n't 't t't", &["n", "'t", "'", "t", "t", "'t"]),
            (
                "'quoted' rock'n'roll",
                &["'", "quoted", "'", "rock", "'n", "'roll"],
            ),
            ("3.5% of $10", &["3", ".", "5", "%", "of", "$", "10"]),
            (
                "caf\u{e9} cafe\u{301} \u{645}\u{631}\u{62d}\u{628}\u{627}",
                &[
                    "caf\u{e9}",
                    "cafe\u{301}",
                    "\u{645}\u{631}\u{62d}\u{628}\u{627}",
                ],
            ),
        ] {
            assert_eq!(Words.of(text), expected, "{text:?}");
        }
        assert_eq!(Spaces.of(" a, b\u{a0}c "), ["a,", "b", "c"]);
    }

    /// No text panics, and nothing but spaces is lost.
    #[test]
    fn all_that_is_no_space_is_in_a_token() {
        let alphabet = [
            'a', 'n', 't', '\'', '\u{2019}', ' ', '\u{301}', '中', '😀', 'T',
        ];
        for number in 0..10_000_usize {
            let pick = |place: u32| alphabet[number / 10_usize.pow(place) % 10];
            let text: String = (0..5).map(pick).collect();
            let kept: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            assert_eq!(Words.of(&text).concat(), kept, "{text:?}");
        }
    }
}
