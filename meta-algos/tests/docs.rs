//! Code and links of the documentation are true: a block that names a file stands in that file, and a
//! relative link leads to a file, and to a heading where it names one.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the workspace.
fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().expect("the workspace").to_owned()
}

/// `README.md`, and the Markdown files of `docs`, `docs/decisions` and `.github`.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs", "docs/decisions", ".github"] {
        for entry in fs::read_dir(root().join(folder)).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block: the line after its fence, the word after the language (empty without one), its code.
#[derive(Debug, PartialEq)]
struct Block {
    line: usize,
    file: String,
    code: Vec<String>,
}

/// The fenced blocks of a page, and the page without them, line by line.
fn split(page: &str) -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut open: Option<Block> = None;
    for (number, line) in page.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            prose.push(String::new());
            match open.take() {
                Some(block) => blocks.push(block),
                None => {
                    let file = info.split_whitespace().nth(1).unwrap_or_default();
                    open = Some(Block {
                        line: number + 2,
                        file: file.to_owned(),
                        code: Vec::new(),
                    });
                }
            }
        } else if let Some(block) = &mut open {
            block.code.push(line.to_owned());
            prose.push(String::new());
        } else {
            prose.push(line.to_owned());
        }
    }
    assert_eq!(open, None, "a block without an end");
    (blocks, prose)
}

/// The lines without the indentation that all of them share.
fn dedented<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let filled = lines.iter().filter(|line| !line.trim().is_empty());
    let shared = filled.map(indent).min().unwrap_or(0);
    lines
        .iter()
        .map(|line| line.get(shared..).unwrap_or_default().trim_end())
        .collect()
}

/// Whether `code` stands in `text` line by line, but for a common indentation.
fn stands_in(code: &[String], text: &str) -> bool {
    let code: Vec<&str> = code.iter().map(String::as_str).collect();
    let code = dedented(&code);
    let text: Vec<&str> = text.lines().collect();
    !code.is_empty() && text.windows(code.len()).any(|part| dedented(part) == code)
}

/// The file called `name` among the examples.
fn example(name: &str) -> PathBuf {
    let folders = ["meta-algos/examples", "meta-bench/tests/plugin/src"];
    let mut found = folders.iter().map(|folder| root().join(folder).join(name));
    found
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no file `{name}` in {folders:?}"))
}

#[test]
fn code_that_names_a_file_stands_in_it() {
    let mut checked = 0;
    for page in pages() {
        for block in split(&read(&page)).0 {
            if !block.file.ends_with(".rs") {
                continue;
            }
            let file = example(&block.file);
            let place = format!("{}:{}", page.display(), block.line);
            assert!(
                stands_in(&block.code, &read(&file)),
                "{place}: this code is not in {}:\n{}",
                file.display(),
                block.code.join("\n")
            );
            checked += 1;
        }
    }
    assert!(checked >= 8, "the search finds what there is: {checked}");
}

/// The targets of the links and pictures in a line, without those in code spans.
fn links(line: &str) -> Vec<String> {
    let text: String = line.split('`').step_by(2).collect();
    text.match_indices("](")
        .filter_map(|(at, _)| {
            let rest = &text[at + 2..];
            Some(rest[..rest.find(')')?].to_owned())
        })
        .collect()
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Why the link `target` of `page` leads nowhere.
fn broken(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => page.to_owned(),
        file => page.parent().expect("a folder").join(file),
    };
    if !path.exists() {
        return Some("no such file".to_owned());
    }
    if heading.is_empty() {
        return None;
    }
    let (_, prose) = split(&read(&path));
    let mut headings = prose.iter().filter(|line| line.starts_with('#'));
    let known = headings.any(|line| anchor(line) == heading);
    (!known).then(|| "no such heading".to_owned())
}

#[test]
fn relative_links_lead_to_files() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        for (number, line) in split(&read(&page)).1.iter().enumerate() {
            for target in links(line) {
                count += 1;
                if let Some(reason) = broken(&page, &target) {
                    let place = format!("{}:{}", page.display(), number + 1);
                    wrong.push(format!("{place}: {target}: {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "the search finds what there is: {count}");
}

/// The cells of a table row whose first cell is a name in code.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let (name, rest) = row.split_once("` | ")?;
    Some([name].into_iter().chain(rest.split(" | ")).collect())
}

/// Whether one line of `page` starts with the name and holds all the numbers of a row.
fn is_reported(row: &[&str], page: &str) -> bool {
    let start = format!("| `{}`", row[0]);
    let is_number = |cell: &&&str| cell.starts_with(|c: char| c.is_ascii_digit());
    let part = |c: char| c.is_ascii_digit() || c == '.';
    let has = |line: &str, cell: &str| {
        line.match_indices(cell).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + cell.len()..]);
            !before.ends_with(part) && !after.starts_with(part)
        })
    };
    let mut lines = page.lines().filter(|line| line.starts_with(&start));
    lines.any(|line| {
        row[1..]
            .iter()
            .filter(is_number)
            .all(|cell| has(line, cell))
    })
}

/// The numbers of the front page are copies of those that a program wrote.
#[test]
fn numbers_of_the_front_page_are_reported_ones() {
    let text = |name: &str| read(&root().join(name));
    let pages = ["results", "ledger", "performance"];
    let known = pages.map(|page| text(&format!("docs/{page}.md")));
    let front = text("README.md");
    let top = front.split("\n## ").next().expect("the first part");
    let mut count = 0;
    for row in top.lines().filter_map(cells) {
        assert!(
            known.iter().any(|page| is_reported(&row, page)),
            "README.md: these numbers are in no row of docs/{{results, ledger, performance}}.md: {row:?}"
        );
        count += 1;
    }
    assert!(count >= 6, "the search finds what there is: {count}");
}

#[test]
fn what_is_not_there_is_found_missing() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let text = "fn f() {\n    let a = 1;\n\n    a + 1\n}\n";
    assert!(stands_in(&lines("let a = 1;\n\na + 1"), text));
    assert!(!stands_in(&lines("let a = 1;\n\na + 2"), text));
    assert!(!stands_in(&lines("let a = 1;\na + 1"), text));
    assert!(!stands_in(&[], text));

    let row = cells("| `maml` | maml | 97.9 ± 0.2 % | – |").expect("a row");
    assert_eq!(row, ["maml", "maml", "97.9 ± 0.2 %", "–"]);
    assert!(is_reported(&row, "| `maml` | 40 | 97.9 ± 0.2 % |"));
    assert!(!is_reported(&row, "| `maml` | 40 | 97.9 ± 0.3 % |"));
    assert!(!is_reported(&row, "| `anil` | 40 | 97.9 ± 0.2 % |"));

    let (blocks, prose) = split("a\n```rust f.rs\nlet a;\n```\nb");
    assert_eq!(blocks[0].file, "f.rs");
    assert_eq!((blocks[0].line, &blocks[0].code), (3, &lines("let a;")));
    assert_eq!(prose, ["a", "", "", "", "b"]);

    assert_eq!(
        links("[a](b.md) `[c](d)` ![e](f.png#g)"),
        ["b.md", "f.png#g"]
    );
    assert_eq!(
        anchor("## `vulkan` and tch, *so far*"),
        "vulkan-and-tch-so-far"
    );
    let page = root().join("README.md");
    assert_eq!(broken(&page, "docs/numerics.md#how-exact"), None);
    assert!(broken(&page, "docs/numerics.md#how-wrong").is_some());
    assert!(broken(&page, "docs/absent.md").is_some());
}
