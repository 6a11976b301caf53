//! An invented language: what its words mean, and what a sentence of it says.

use crate::rng::Stream;

/// Probability with which a rule's right side ends, once it has two arguments (Lake and Baroni's code).
const STOP: f64 = 0.6;
/// The most primitives side by side.
const RUN: usize = 3;

/// What a function does with its arguments: `x f` or `x f y`, where `x` and `y` are what stands on either side
/// of its word, up to looser functions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// 1 or 2.
    pub arguments: usize,
    /// The right side: arguments in the order in which their meanings stand, 0 for `x` and 1 for `y`.
    pub right: Vec<usize>,
}

/// Primitives, which stand for a symbol each, and functions.
#[derive(Clone, Debug)]
pub(super) struct Language {
    /// The word of each primitive, and its symbol.
    pub primitives: Vec<(usize, usize)>,
    /// The word of each function, and its rule; the loosest first.
    pub functions: Vec<(usize, Rule)>,
}

/// How many of what a language is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub primitives: usize,
    pub functions: usize,
    pub words: usize,
    pub symbols: usize,
    /// The most arguments on a rule's right side.
    pub rule: usize,
}

impl Rule {
    /// A random one with at most `longest` arguments on its right side: all arguments, more of them until a
    /// coin says stop, in any order.
    fn random(stream: &mut Stream, longest: usize) -> Self {
        let arguments = 1 + stream.below(2);
        let mut right: Vec<usize> = (0..arguments).collect();
        while right.len() < longest && (right.len() < 2 || stream.uniform() >= STOP) {
            right.push(stream.below(arguments));
        }
        stream.shuffle(&mut right);
        Rule { arguments, right }
    }

    /// The rule whose right side has the arguments in the order of the words.
    fn iconic(&self) -> Self {
        let mut right = self.right.clone();
        right.sort_unstable();
        Rule {
            arguments: self.arguments,
            right,
        }
    }
}

impl Language {
    /// A random language, with words and symbols drawn anew.
    pub fn random(stream: &mut Stream, sizes: Sizes) -> Self {
        let words = stream.choose_distinct(sizes.words, sizes.primitives + sizes.functions);
        let symbols = stream.choose_distinct(sizes.symbols, sizes.primitives);
        let (primitives, functions) = words.split_at(sizes.primitives);
        Language {
            primitives: primitives.iter().copied().zip(symbols).collect(),
            functions: functions
                .iter()
                .map(|&word| (word, Rule::random(stream, sizes.rule)))
                .collect(),
        }
    }

    /// The language of the same words that says everything in the order of its words.
    pub fn iconic(&self) -> Self {
        let functions = self.functions.iter();
        Language {
            primitives: self.primitives.clone(),
            functions: functions
                .map(|(word, rule)| (*word, rule.iconic()))
                .collect(),
        }
    }

    /// The rules alone, in an order of their own.
    pub fn rules(&self) -> Vec<Rule> {
        let rules = self.functions.iter().map(|(_, rule)| rule.clone());
        let mut rules: Vec<Rule> = rules.collect();
        rules.sort();
        rules
    }

    /// The symbols that a sentence stands for; none where it is none of this language, or says more than
    /// `longest` symbols.
    ///
    /// The loosest function splits it, then the next in each part; what is left is a run of primitives, whose
    /// symbols stand one after the other.
    pub fn interpret(&self, sentence: &[usize], longest: usize) -> Option<Vec<usize>> {
        self.interpret_from(0, sentence, longest)
    }

    fn interpret_from(
        &self,
        level: usize,
        sentence: &[usize],
        longest: usize,
    ) -> Option<Vec<usize>> {
        let Some((word, rule)) = self.functions.get(level) else {
            let symbol = |word: &usize| {
                let mut known = self.primitives.iter();
                known
                    .find(|(own, _)| own == word)
                    .map(|&(_, symbol)| symbol)
            };
            let run: Option<Vec<usize>> = sentence.iter().map(symbol).collect();
            return run.filter(|run| !run.is_empty() && run.len() <= longest);
        };
        let inner = |part: &[usize]| self.interpret_from(level + 1, part, longest);
        let Some(place) = sentence.iter().position(|own| own == word) else {
            return inner(sentence);
        };
        let (before, after) = (&sentence[..place], &sentence[place + 1..]);
        let arguments = match rule.arguments {
            1 if after.is_empty() => vec![inner(before)?],
            2 => vec![inner(before)?, inner(after)?],
            _ => return None,
        };
        let said = rule.right.iter().flat_map(|&argument| &arguments[argument]);
        let said: Vec<usize> = said.take(longest + 1).copied().collect();
        (said.len() <= longest).then_some(said)
    }

    /// A random sentence of these functions (positions in `functions`), each at least once, whose runs of
    /// primitives are of the first `known` and go on with the probability `run`.
    pub fn sentence(
        &self,
        stream: &mut Stream,
        functions: &[usize],
        known: usize,
        run: f64,
    ) -> Vec<usize> {
        let Some((&loosest, inner)) = functions.split_first() else {
            let primitive = |stream: &mut Stream| self.primitives[stream.below(known)].0;
            let mut words = vec![primitive(stream)];
            while words.len() < RUN && run > 0.0 && stream.uniform() < run {
                words.push(primitive(stream));
            }
            return words;
        };
        let (word, rule) = &self.functions[loosest];
        if rule.arguments == 1 {
            let mut words = self.sentence(stream, inner, known, run);
            words.push(*word);
            return words;
        }
        // Each tighter function stands on the left, on the right or on both sides.
        let sides: Vec<usize> = inner.iter().map(|_| stream.below(3)).collect();
        let on = |side: usize| -> Vec<usize> {
            let kept = inner.iter().zip(&sides).filter(|(_, own)| **own != side);
            kept.map(|(&function, _)| function).collect()
        };
        let mut words = self.sentence(stream, &on(1), known, run);
        words.push(*word);
        words.extend(self.sentence(stream, &on(0), known, run));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    /// `0 after 1` is `1 0`, `0 around 1` is `0 1 0`, `0 thrice` is `0 0 0`; after binds the loosest.
    #[test]
    fn sentences_by_hand() {
        let rule = |arguments: usize, right: &[usize]| Rule {
            arguments,
            right: right.to_vec(),
        };
        let language = Language {
            primitives: vec![(0, 10), (1, 11), (2, 12)],
            functions: vec![
                (5, rule(2, &[1, 0])),
                (6, rule(2, &[0, 1, 0])),
                (7, rule(1, &[0, 0, 0])),
            ],
        };
        let said = |sentence: &[usize]| language.interpret(sentence, 8);
        assert_eq!(said(&[0]), Some(vec![10]));
        assert_eq!(said(&[0, 7]), Some(vec![10; 3]));
        assert_eq!(said(&[0, 6, 1]), Some(vec![10, 11, 10]));
        assert_eq!(
            said(&[0, 6, 1, 5, 2, 7]),
            Some(vec![12, 12, 12, 10, 11, 10])
        );
        assert_eq!(said(&[0, 1, 5, 2]), Some(vec![12, 10, 11]));
        // Too long, without an argument, and of no word that is known.
        assert_eq!(said(&[0, 1, 2, 7]), None);
        assert_eq!(said(&[0, 5]), None);
        assert_eq!(said(&[0, 7, 1]), None);
        assert_eq!(said(&[9]), None);
        assert_eq!(said(&[]), None);
        // In the order of the words, nothing changes places.
        assert_eq!(
            language.iconic().interpret(&[0, 6, 1], 8),
            Some(vec![10, 10, 11])
        );
    }

    /// Whatever is drawn has a meaning, unless it is too long.
    #[test]
    fn random_sentences_are_of_their_language() {
        let sizes = Sizes {
            primitives: 4,
            functions: 3,
            words: 9,
            symbols: 6,
            rule: 8,
        };
        for index in 0..200 {
            let stream = &mut Seed(1).stream("language", index, "test");
            let language = Language::random(stream, sizes);
            for functions in [&[][..], &[0], &[1, 2], &[0, 1, 2]] {
                let sentence = language.sentence(stream, functions, 3, 0.2);
                let said = language.interpret(&sentence, 10_000);
                assert!(said.is_some(), "{language:?} {sentence:?}");
                for &function in functions {
                    assert!(sentence.contains(&language.functions[function].0));
                }
            }
        }
    }
}
