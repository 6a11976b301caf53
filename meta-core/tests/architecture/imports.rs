//! Reads which file of a crate imports which, from the source text.
//!
//! `use` declarations and paths in code count, `pub use` does not: a module that hands a name on does not
//! need it. An import of such a name is an import of the file that defines it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module's path inside its crate: `["nn", "linear"]`; empty for the root.
pub type Module = Vec<String>;

/// The files of a crate, by module, and what each imports.
pub struct Crate {
    /// What each module imports of the crate, its own children included.
    pub imports: BTreeMap<Module, BTreeSet<Module>>,
    /// The code of each module, without comments, strings and tests.
    pub code: BTreeMap<Module, String>,
}

/// A leaf of a `use` declaration.
#[derive(Debug, PartialEq)]
struct Use {
    /// `pub use`, of whatever visibility.
    handed_on: bool,
    /// The path, without its first `::`.
    path: Vec<String>,
    /// The name it has here.
    name: String,
}

impl Crate {
    /// Reads the crate whose sources are in `folder`.
    pub fn read(folder: &Path) -> Self {
        let mut code = BTreeMap::new();
        for path in rust_files(folder) {
            let text = fs::read_to_string(&path).expect("a readable file");
            code.insert(module_of(folder, &path), without_tests(&bare(&text)));
        }
        let mut names: BTreeMap<(Module, String), Module> = BTreeMap::new();
        for (module, code) in &code {
            for found in uses(code).into_iter().filter(|found| found.handed_on) {
                if let Some(path) = absolute(module, &found.path) {
                    names.insert((module.clone(), found.name), path);
                }
            }
            for name in macros(code) {
                names.insert((Module::new(), name.clone()), with(module, &name));
            }
        }
        let known: BTreeSet<Module> = code.keys().cloned().collect();
        let imports = code
            .iter()
            .map(|(module, code)| {
                let paths = uses(code)
                    .into_iter()
                    .filter(|found| !found.handed_on)
                    .map(|found| found.path)
                    .chain(paths(code));
                let targets = paths
                    .filter_map(|path| absolute_of_known(module, &path, &known))
                    .map(|path| definer(path, &known, &names))
                    .filter(|target| target != module && !target.is_empty())
                    .collect();
                (module.clone(), targets)
            })
            .collect();
        Crate { imports, code }
    }

    /// A circle of files that import each other, if there is one.
    pub fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.imports
            .keys()
            .find_map(|start| self.search(start, &mut Vec::new(), &mut done))
    }

    fn search(
        &self,
        module: &Module,
        path: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> Option<Vec<String>> {
        if let Some(from) = path.iter().position(|above| above == module) {
            let circle = path[from..].iter().chain([module]);
            return Some(circle.map(|module| module.join("::")).collect());
        }
        if !done.insert(module.clone()) {
            return None;
        }
        path.push(module.clone());
        let found = self.imports[module]
            .iter()
            .find_map(|import| self.search(import, path, done));
        path.pop();
        found
    }
}

/// All Rust files below `folder`.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn module_of(folder: &Path, path: &Path) -> Module {
    let inside = path.strip_prefix(folder).expect("a file of the folder");
    let mut module: Module = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

fn with(module: &Module, name: &str) -> Module {
    let mut path = module.clone();
    path.push(name.to_owned());
    path
}

/// The text with comments, strings and character literals blanked out.
pub fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            end_of_string(rest)
        } else if first == '\'' {
            end_of_character(rest)
        } else {
            0
        };
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    out
}

fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The end of a character literal; 0 for a lifetime.
fn end_of_character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |end| end + 4),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// The code without the modules and functions that only tests have.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let body = rest.find('{').unwrap_or(rest.len());
        let line = rest.find(';').unwrap_or(rest.len());
        rest = if line < body {
            &rest[line + 1..]
        } else {
            &rest[body + braces(&rest[body..])..]
        };
    }
    out.push_str(rest);
    out
}

/// The length of the block in braces that `text` begins with.
fn braces(text: &str) -> usize {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// The functions of `code` that have a body, each with its number of lines.
pub fn functions(code: &str) -> Vec<(&str, usize)> {
    words(code, "fn")
        .filter_map(|at| {
            let name = identifier(code[at + 2..].trim_start());
            let body = at + code[at..].find(['{', ';'])?;
            let ends = code[body..].starts_with('{') && !name.is_empty();
            let lines = |end: usize| code[at..end].lines().count();
            ends.then(|| (name, lines(body + braces(&code[body..]))))
        })
        .collect()
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// Where a word stands as a word of its own.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .filter(move |(at, _)| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
        .map(|(at, _)| at)
}

fn macros(code: &str) -> Vec<String> {
    words(code, "macro_rules")
        .filter(|&at| code[..at].trim_end().ends_with("#[macro_export]"))
        .map(|at| identifier(code[at..].trim_start_matches("macro_rules! ")).to_owned())
        .collect()
}

/// The leaves of the `use` declarations of `code`.
fn uses(code: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for at in words(code, "use") {
        let before = code[..at].trim_end();
        let starts = before.is_empty() || before.ends_with([';', '{', '}', ']']);
        let handed_on = before.ends_with("pub")
            || before.ends_with(')') && before.rfind("pub(").is_some_and(|p| before.len() - p < 14);
        if !starts && !handed_on {
            continue;
        }
        let Some(end) = code[at..].find(';') else {
            continue;
        };
        leaves(&code[at + 3..at + end], &[], handed_on, &mut found);
    }
    found
}

fn leaves(tree: &str, prefix: &[String], handed_on: bool, found: &mut Vec<Use>) {
    let tree = tree.trim().trim_start_matches("::");
    let mut path = prefix.to_vec();
    let mut rest = tree;
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            let inside = inside.trim_end().trim_end_matches('}');
            for part in parts(inside) {
                leaves(part, &path, handed_on, found);
            }
            return;
        }
        let name = identifier(rest).to_owned();
        if name.is_empty() {
            return;
        }
        rest = rest[name.len()..].trim_start();
        if name != "self" || path.is_empty() {
            path.push(name);
        }
        match rest.strip_prefix("::") {
            Some(more) => rest = more.trim_start(),
            None => break,
        }
    }
    let name = match rest.strip_prefix("as ") {
        Some(alias) => identifier(alias.trim()).to_owned(),
        None => path.last().cloned().unwrap_or_default(),
    };
    found.push(Use {
        handed_on,
        path,
        name,
    });
}

/// What is between the commas of the first level.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The paths in `code` that begin with `crate::` or `super::`, `use` declarations included.
fn paths(code: &str) -> Vec<Vec<String>> {
    let starts = ["crate", "super"].into_iter();
    let found = starts.flat_map(|word| words(code, word)).filter(|&at| {
        let before = &code[..at];
        !before.ends_with("::")
    });
    found
        .filter_map(|at| {
            let mut path = Vec::new();
            let mut rest = &code[at..];
            loop {
                let name = identifier(rest);
                if name.is_empty() {
                    break;
                }
                path.push(name.to_owned());
                match rest[name.len()..].strip_prefix("::") {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            // `use crate::{…}` is read with the declarations; `pub(crate)` is no path.
            let whole = !rest.starts_with('{') && path.len() > 1;
            let declared = code[..at]
                .rfind([';', '}'])
                .map_or(&code[..at], |p| &code[p + 1..at]);
            let declared = words(declared, "use").next().is_some();
            (whole && !declared).then_some(path)
        })
        .collect()
}

/// The path from the root of the crate, where it is one.
fn absolute(module: &Module, path: &[String]) -> Option<Module> {
    let (mut at, mut rest) = match path.first()?.as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (module.clone(), &path[1..]),
        "super" => (module.clone(), path),
        _ => return Some([module.as_slice(), path].concat()),
    };
    while rest.first().is_some_and(|part| part == "super") {
        at.pop();
        rest = &rest[1..];
    }
    at.extend_from_slice(rest);
    Some(at)
}

/// The same; none for a path that begins with the name of another crate.
fn absolute_of_known(module: &Module, path: &[String], known: &BTreeSet<Module>) -> Option<Module> {
    let first = path.first()?;
    let relative = matches!(first.as_str(), "crate" | "self" | "super");
    if relative || known.contains(&with(module, first)) {
        absolute(module, path)
    } else {
        None
    }
}

/// The module that defines what `path` names.
fn definer(
    path: Module,
    known: &BTreeSet<Module>,
    names: &BTreeMap<(Module, String), Module>,
) -> Module {
    let mut path = path;
    // A name that is handed on leads to another path; a chain of them is short.
    for _ in 0..8 {
        let mut length = path.len();
        while !known.contains(&path[..length]) {
            length -= 1;
        }
        let module = path[..length].to_vec();
        let Some(name) = path.get(length) else {
            return module;
        };
        match names.get(&(module.clone(), name.clone())) {
            Some(target) if *target != path => path = target.clone(),
            _ => return module,
        }
    }
    path
}

#[test]
fn declarations_are_understood() {
    let code =
        "use crate::{a, b::{c as d, self}};\npub use e::F; pub(crate) use g::H;\nuse std::io;";
    let found: Vec<String> = uses(code)
        .iter()
        .map(|found| {
            format!(
                "{} {} {}",
                found.handed_on,
                found.path.join("."),
                found.name
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "false crate.a a",
            "false crate.b.c d",
            "false crate.b b",
            "true e.F F",
            "true g.H H",
            "false std.io io",
        ]
    );
}

#[test]
fn paths_in_code_are_understood() {
    let code =
        bare("// crate::not()\nfn f() { crate::g::h(\"crate::no\"); my_crate::i(); super::j }");
    assert_eq!(
        paths(&code),
        [["crate", "g", "h"].as_slice(), &["super", "j"]]
    );
}

#[test]
fn names_that_are_handed_on_lead_to_their_file() {
    let folder = std::env::temp_dir().join(format!("meta-imports-{}", std::process::id()));
    fs::create_dir_all(folder.join("a")).unwrap();
    fs::write(folder.join("lib.rs"), "pub mod a; mod b; mod c;").unwrap();
    fs::write(
        folder.join("a/mod.rs"),
        "mod x; pub use x::X; use super::b::B;",
    )
    .unwrap();
    fs::write(folder.join("a/x.rs"), "pub struct X;").unwrap();
    fs::write(
        folder.join("b.rs"),
        "use crate::a::X; #[cfg(test)] mod tests { use crate::c::C; }",
    )
    .unwrap();
    fs::write(
        folder.join("c.rs"),
        "use crate::b::B; fn f() { crate::a::f() }",
    )
    .unwrap();
    let found = Crate::read(&folder);
    fs::remove_dir_all(&folder).unwrap();
    let of = |name: &str| -> Vec<String> {
        let imports = &found.imports[&name.split("::").map(str::to_owned).collect::<Module>()];
        imports.iter().map(|module| module.join("::")).collect()
    };
    assert_eq!(of("a"), ["b"]);
    assert_eq!(of("b"), ["a::x"]);
    assert_eq!(of("c"), ["a", "b"]);
    assert_eq!(found.circle(), None);
}
