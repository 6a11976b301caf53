//! Writes references to the methods of runs as BibTeX.

use meta_core::toolkit::Catalogue;

/// A work that is cited in a few words: `Snell et al., Prototypical networks, NIPS 2017`.
struct Work<'a> {
    authors: &'a str,
    title: String,
    venue: String,
    year: Option<&'a str>,
}

impl<'a> Work<'a> {
    /// Reads `authors, title, venue year`; what is missing is left empty.
    fn read(text: &'a str) -> Self {
        let mut parts: Vec<&str> = text.split(", ").map(str::trim).collect();
        let authors = parts.remove(0);
        let last = parts.pop().unwrap_or_default();
        let is_year =
            |word: &str| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit());
        let (venue, year) = match last.rsplit_once(' ') {
            Some((venue, year)) if is_year(year) => (venue, Some(year)),
            None if is_year(last) => ("", Some(last)),
            _ => (last, None),
        };
        // An archive's number stands before the year: `arXiv:1707.09835, 2017`.
        let archive = match parts.last() {
            Some(part) if part.starts_with("arXiv:") => parts.pop(),
            _ => None,
        };
        Work {
            authors,
            title: parts.join(", "),
            venue: archive.unwrap_or(venue).to_owned(),
            year,
        }
    }

    fn key(&self) -> String {
        let word = |text: &str| -> String {
            let first = text.split([' ', '-']).next().unwrap_or_default();
            first.chars().filter(char::is_ascii_alphanumeric).collect()
        };
        let title = word(&self.title);
        format!(
            "{}{}{}",
            word(self.authors),
            self.year.unwrap_or_default(),
            title
        )
        .to_lowercase()
    }

    fn entry(&self) -> String {
        let authors = self.authors.replace(" et al.", " and others");
        let mut out = format!(
            "@misc{{{},\n  author = {{{}}},\n",
            self.key(),
            plain(&authors)
        );
        let fields = [
            ("title", self.title.as_str()),
            ("howpublished", &self.venue),
            ("year", self.year.unwrap_or_default()),
        ];
        for (name, value) in fields {
            if !value.is_empty() {
                out.push_str(&format!("  {name} = {{{}}},\n", plain(value)));
            }
        }
        out.push_str("}\n");
        out
    }
}

/// Without what would end a field.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !"{}\\@%".contains(*letter))
        .collect()
}

/// The entries of the papers of `learners` and `encoders`, each once, and one of this program.
pub fn bibtex(
    catalogue: &Catalogue,
    learners: &[&str],
    encoders: &[&str],
    commit: Option<&str>,
) -> String {
    let of_learners = catalogue
        .learners
        .iter()
        .filter(|entry| learners.contains(&entry.info.name))
        .map(|entry| entry.info.paper);
    let of_encoders = catalogue
        .encoders
        .iter()
        .filter(|entry| encoders.contains(&entry.info.name))
        .map(|entry| entry.info.paper);
    let mut entries: Vec<String> = of_learners
        .chain(of_encoders)
        .flat_map(|paper| paper.split("; "))
        .filter(|paper| paper.contains(", "))
        .map(|paper| Work::read(paper).entry())
        .collect();
    entries.sort();
    entries.dedup();
    let commit = commit.map_or_else(String::new, |commit| format!(", commit {}", plain(commit)));
    entries.push(format!(
        "@software{{meta,\n  title = {{meta: few-shot meta-learning}},\n  version = {{{}{commit}}},\n}}\n",
        env!("CARGO_PKG_VERSION")
    ));
    entries.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paper_is_an_entry() {
        let entry = |text| Work::read(text).entry();
        assert_eq!(
            entry("Snell et al., Prototypical networks, NIPS 2017"),
            "@misc{snell2017prototypical,\n  author = {Snell and others},\n  title = {Prototypical \
             networks},\n  howpublished = {NIPS},\n  year = {2017},\n}\n"
        );
        let archive = entry("Li et al., Meta-SGD, arXiv:1707.09835, 2017");
        assert!(
            archive.contains("howpublished = {arXiv:1707.09835}"),
            "{archive}"
        );
        let bare = entry("Fisher, 1936");
        assert!(
            bare.contains("@misc{fisher1936,") && !bare.contains("title"),
            "{bare}"
        );
        assert!(!plain("a}b\\@c").contains(['}', '\\', '@']));
    }

    /// Every learner of the binary has an entry or says that it is none's.
    #[test]
    fn every_paper_can_be_read() {
        let catalogue = Catalogue::of::<meta_algos::BuiltIn>();
        for entry in &catalogue.learners {
            let text = bibtex(&catalogue, &[entry.info.name], &[], Some("abc"));
            assert!(text.contains("@misc{"), "{}: {text}", entry.info.name);
            assert!(text.contains("commit abc"));
        }
    }
}
