//! Tests of invented languages.

use super::*;
use crate::data::episode::{Items, Targets, before_end};

fn source(change: impl FnOnce(&mut GrammarSettings)) -> GrammarSource {
    let mut settings = GrammarSettings::default();
    change(&mut settings);
    settings.build().expect("valid settings")
}

fn episode(source: &GrammarSource, split: Split, index: u64) -> Episode {
    let shape = EpisodeShape::new(1, 14, 10);
    source.episode(Seed(3), split, shape, index).expect("fits")
}

/// Sentences and symbols of items.
fn pairs(items: &Items) -> Vec<(Vec<u32>, Vec<u32>)> {
    let Targets::Sequences(symbols) = &items.targets else {
        panic!("sequences")
    };
    let rows = items.inputs.chunks(8).zip(symbols.chunks(9));
    rows.map(|(words, target)| {
        let words = words.iter().take_while(|&&word| word > 0.0);
        let words = words.map(|&word| word as u32 - 1).collect();
        (words, before_end(target, 6).to_vec())
    })
    .collect()
}

/// What people were given is what its three rules say.
#[test]
fn mini_scan_is_a_language() {
    let given = mini_scan().expect("sound");
    assert_eq!((given.study.len(), given.queries.len()), (14, 10));
    let [thrice, surround, after] = mini_scan_rules();
    let language = Language {
        primitives: (0..MINI_SCAN_PRIMITIVES).map(|word| (word, word)).collect(),
        functions: vec![(4, after), (5, surround), (6, thrice)],
    };
    for (words, said) in given.study.iter().chain(&given.queries) {
        assert_eq!(
            language.interpret(words, 8).as_ref(),
            Some(said),
            "{words:?}"
        );
    }
    assert_eq!(language.rules(), mini_scan_rules());
}

/// It is the same for every seed, but for names; without new names it is the file.
#[test]
fn mini_scan_is_fixed() {
    let fixed = source(|s| {
        s.language = LanguageKind::MiniScan;
        s.permuted = false;
    });
    let lexicon = fixed.lexicon().expect("words");
    let first = episode(&fixed, Split::Test, 0);
    assert_eq!(first.query, episode(&fixed, Split::Test, 7).query);
    let line = |row: usize| lexicon.sentence(&first.query.inputs[row * 8..(row + 1) * 8]);
    assert_eq!(line(0), "wif fep zup");
    let (own, said) = &pairs(&first.query)[8];
    assert_eq!((own.len(), said), (6, &vec![3; 6]));
    let renamed = source(|s| s.language = LanguageKind::MiniScan);
    let [one, other] = [0, 1].map(|index| episode(&renamed, Split::Test, index));
    assert_ne!(one.query, other.query);
    let lengths = |episode: &Episode| -> Vec<usize> {
        pairs(&episode.query)
            .iter()
            .map(|(_, said)| said.len())
            .collect()
    };
    assert_eq!(lengths(&one), lengths(&first));
}

/// Study examples show every word, one primitive alone; no query repeats an example or another query, and
/// with `retrieve` each is one.
#[test]
fn examples_show_the_language() {
    let [plain, retrieving] =
        [Asked::Generalise, Asked::Retrieve].map(|asked| source(|s| s.queries = asked));
    let mut isolated = 0;
    for index in 0..50 {
        let drawn = episode(&plain, Split::Test, index);
        let (study, queries) = (pairs(&drawn.support), pairs(&drawn.query));
        let known: HashSet<&Vec<u32>> = study.iter().map(|(words, _)| words).collect();
        assert_eq!(known.len(), 14, "{study:?}");
        let words: HashSet<u32> = study.iter().flat_map(|(words, _)| words).copied().collect();
        assert_eq!(words.len(), 7);
        assert_eq!(
            study.iter().filter(|(words, _)| words.len() == 1).count(),
            4
        );
        let often = |word: &u32| {
            study
                .iter()
                .flat_map(|(own, _)| own)
                .filter(|own| *own == word)
                .count()
        };
        isolated += usize::from(words.iter().any(|word| often(word) == 1));
        let mut asked = HashSet::new();
        for (words, said) in &queries {
            assert!(!known.contains(words) && asked.insert(words) && !said.is_empty());
        }
        let again = episode(&retrieving, Split::Test, index);
        assert_eq!(again.support, drawn.support);
        assert!(pairs(&again.query).iter().all(|pair| study.contains(pair)));
    }
    assert_eq!(isolated, 50);
}

/// Easy languages are of training alone, and have an example of every word they have.
#[test]
fn training_may_have_easy_languages() {
    let easy = source(|s| s.simple = 1.0);
    assert_eq!(
        episode(&easy, Split::Test, 1),
        episode(&source(|_| ()), Split::Test, 1)
    );
    let words = |index| -> usize {
        let study = pairs(&episode(&easy, Split::Train, index).support);
        let words: HashSet<u32> = study.into_iter().flat_map(|(words, _)| words).collect();
        words.len()
    };
    let found: HashSet<usize> = (0..40).map(words).collect();
    assert_eq!(found, HashSet::from([4, 5, 6]));
}

/// The first training tasks have no functions, then one, and so on; other splits have all of them.
#[test]
fn languages_grow() {
    let growing = source(|s| s.curriculum = 40);
    let words = |split, index| -> usize {
        let study = pairs(&episode(&growing, split, index).support);
        let words: HashSet<u32> = study.into_iter().flat_map(|(words, _)| words).collect();
        words.len()
    };
    let found = [0, 9, 10, 20, 30, 40, 1000].map(|index| words(Split::Train, index));
    assert_eq!(found, [4, 4, 5, 6, 7, 7, 7]);
    assert_eq!(words(Split::Test, 0), 7);
}

/// Inclinations and noise reach training queries alone.
#[test]
fn people_are_inclined_in_training_alone() {
    let plain = source(|_| ());
    let inclined = source(|s| {
        (s.noise, s.one_to_one, s.iconic) = (0.1, 0.5, 0.3);
    });
    for split in [Split::Validation, Split::Test] {
        assert_eq!(episode(&plain, split, 2), episode(&inclined, split, 2));
    }
    let (own, other) = (
        episode(&plain, Split::Train, 2),
        episode(&inclined, Split::Train, 2),
    );
    assert_eq!(own.support, other.support);
    assert_eq!(own.query.inputs, other.query.inputs);
    assert_ne!(own.query.targets, other.query.targets);
    let word_by_word = source(|s| s.one_to_one = 1.0);
    for (words, said) in pairs(&episode(&word_by_word, Split::Train, 2).query) {
        assert_eq!(words.len(), said.len());
    }
}

/// An episode as text, by a hash: any change to what is drawn must change the version in the content hash.
#[test]
fn episodes_are_frozen() {
    let source = source(|_| ());
    let mut hasher = blake3::Hasher::new();
    for index in 0..20 {
        let drawn = episode(&source, Split::Test, index);
        hasher.update(format!("{:?} {:?}", pairs(&drawn.support), pairs(&drawn.query)).as_bytes());
    }
    assert_eq!(&hasher.finalize().to_hex()[..16], "739cf77ea097c1bb");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let message = |change: fn(&mut GrammarSettings)| {
        let mut settings = GrammarSettings::default();
        change(&mut settings);
        settings.build().expect_err("refused").to_string()
    };
    assert!(message(|s| s.words = 6).starts_with("`data.words = 6`: must be at least 7"));
    assert!(message(|s| s.symbols = 3).starts_with("`data.symbols = 3`"));
    assert!(
        message(|s| (s.language, s.input_length) = (LanguageKind::MiniScan, 5))
            .contains("mini_scan")
    );
    let refused = |source: &GrammarSource, shot, query| {
        let shape = EpisodeShape::new(1, shot, query);
        source
            .check(Split::Test, shape)
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&source(|_| ()), 6, 10).starts_with("`data.shot = 6`: must be at least 7"));
    let given = source(|s| s.language = LanguageKind::MiniScan);
    assert!(refused(&given, 14, 11).starts_with("`data.query = 11`: must be at most 10"));
    assert!(refused(&given, 13, 10).starts_with("`data.shot = 13`"));
}
