//! The frame of a report: one file that asks for nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::output::{
    table::Table,
    text::{visible, visible_lines},
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// In every report.
pub const MARK: &str = "<meta name=\"generator\" content=\"meta report\">";

/// The whole page. A browser that keeps to its policy loads nothing, and runs no script but the one here.
/// Letters that would turn a line around are shown as escapes.
pub fn page(title: &str, body: &Markup) -> String {
    let body = PreEscaped(visible_lines(&body.0));
    // What is known only once the page is written cannot be guessed by a name in it.
    let nonce = blake3::hash(body.0.as_bytes()).to_hex();
    let nonce = &nonce.as_str()[..32];
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; \
         base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                (PreEscaped(MARK))
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (visible(title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                script nonce=(nonce) { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// A table whose rows can be sorted by its columns.
pub fn table(table: &Table) -> Markup {
    let is_number = |column: usize| {
        let mut values = table.rows.iter().map(|row| &row[column].value);
        values.all(|value| value.is_number() || value.is_null()) && !table.rows.is_empty()
    };
    let class = |column: usize| if is_number(column) { Some("n") } else { None };
    html! {
        div class="scroll" {
            table class="sorted" {
                thead { tr {
                    @for (column, name) in table.columns.iter().enumerate() {
                        th scope="col" class=[class(column)] { (name) }
                    }
                } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                td class=[class(column)] data-value=[cell.value.as_f64()] {
                                    bdi { (cell.text) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A table of names and what they are.
pub fn pairs(rows: &[(&str, String)]) -> Markup {
    html! {
        div class="scroll" {
            table class="facts" {
                tbody {
                    @for (name, value) in rows {
                        tr { th scope="row" { (name) } td { bdi { (value) } } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::Cell;

    /// A name is text wherever it stands: it opens no element, ends no attribute and turns no line around.
    #[test]
    fn names_stay_text() {
        let name = "\"><script>alert(1)</script><img src=x onerror='alert(2)'> & עברית \u{202e}abc";
        let mut rows = Table::new([name, "n"]);
        rows.rows.push(vec![name.into(), Cell::new("1", 1.5)]);
        let body =
            html! { h1 { bdi { (name) } } (table(&rows)) (pairs(&[("name", name.to_owned())])) };
        let page = page(name, &body);
        assert_eq!(page.matches("<script").count(), 1, "the page's own: {page}");
        assert!(!page.contains("<img") && !page.contains("\"><script"));
        assert_eq!(
            page.matches("&lt;script&gt;alert(1)&lt;/script&gt;")
                .count(),
            5
        );
        assert!(
            page.contains("<td class=\"n\" data-value=\"1.5\">"),
            "{page}"
        );
        assert!(page.contains("<bdi>&quot;&gt;&lt;script&gt;"));
        assert!(!page.contains('\u{202e}') && page.contains("\\u202eabc"));
    }

    /// Nothing on the page names another place, but names of XML.
    #[test]
    fn the_frame_asks_for_nothing() {
        let page = page("title", &html! { p { "text" } });
        for part in [
            "http:", "https:", "//cdn", "@import", "url(", "<link", "src=",
        ] {
            let policy = page.replace("default-src", "").replace("-src", "");
            assert!(!policy.contains(part), "{part}");
        }
        assert!(page.contains(MARK) && page.contains("default-src 'none'"));
        assert!(!SCRIPT.contains("fetch(") && !SCRIPT.contains("innerHTML"));
    }
}
