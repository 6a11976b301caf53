//! Shows letters that a terminal would obey, or not show at all, as escapes.
//!
//! Names come from manifests, files and command lines. A line break in one would forge a line, a
//! right-to-left override would reorder what stands beside it, an escape sequence would move the cursor.

/// Whether a terminal shows something else than a letter: controls, and marks that change the direction of
/// text, break lines or have no width.
fn hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Whether `text` has a letter that [`visible`] escapes.
pub fn has_hidden(text: &str) -> bool {
    text.contains(hidden)
}

/// `text` in one line, its hidden letters as escapes (`\n`, `\u202e`), which JSON and TOML read back.
pub fn visible(text: &str) -> String {
    escape(text, |_| false)
}

/// The same with its line breaks and tabs left as they are.
pub fn visible_lines(text: &str) -> String {
    escape(text, |letter| letter == '\n' || letter == '\t')
}

fn escape(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            _ if !hidden(letter) || kept(letter) => out.push(letter),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ => out.push_str(&format!("\\u{:04x}", letter as u32)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(visible("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(
            visible("a\u{202e}b\u{1b}[31m\0"),
            "a\\u202eb\\u001b[31m\\u0000"
        );
        assert_eq!(visible("größer ± 名 א–"), "größer ± 名 א–");
        assert_eq!(visible_lines("a\n\tb\u{2028}"), "a\n\tb\\u2028");
        assert!(has_hidden("\u{feff}") && !has_hidden("é"));
        let text = "a\u{2066}b\u{7f}";
        let json: String = serde_json::from_str(&format!("\"{}\"", visible(text))).unwrap();
        assert_eq!(json, text);
    }
}
