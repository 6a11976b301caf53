//! Published figures, beside which results are shown.

use meta_core::train::TrainSettings;

use crate::run::result::TestResult;

/// A published figure, in per cent, and how it was trained.
struct Published {
    learner: &'static str,
    source: &'static str,
    way: usize,
    shot: usize,
    percent: f64,
    paper: &'static str,
    protocol: &'static str,
}

/// Omniglot, 5-way 1-shot unless it says 20-way.
const PUBLISHED: [Published; 10] = [
    omniglot(
        "maml",
        5,
        98.7,
        "Finn et al. 2017, table 1",
        "60 000 iterations of 32 tasks; as many queries as shots at test",
    ),
    omniglot(
        "maml_pp",
        5,
        99.47,
        "Antoniou et al. 2019, table 1",
        "150 epochs of 500 iterations, an ensemble of the best five",
    ),
    omniglot(
        "meta_sgd",
        5,
        99.53,
        "Li et al. 2017, table 2",
        "60 000 iterations",
    ),
    omniglot(
        "reptile",
        5,
        97.68,
        "Nichol et al. 2018, table 2, transductive",
        "100 000 iterations",
    ),
    omniglot(
        "imaml",
        5,
        99.16,
        "Rajeswaran et al. 2019, table 2, gradient descent",
        "20 000 iterations of 32 tasks",
    ),
    omniglot(
        "matching_net",
        5,
        98.1,
        "Vinyals et al. 2016, table 1",
        "not said",
    ),
    omniglot(
        "siamese",
        5,
        96.7,
        "Koch et al. 2015, as in Vinyals et al. 2016, table 1",
        "not said",
    ),
    omniglot(
        "relation_net",
        5,
        99.6,
        "Sung et al. 2018, table 1",
        "up to 1 000 000 episodes",
    ),
    omniglot(
        "protonet",
        5,
        98.8,
        "Snell et al. 2017, table 1",
        "60-way episodes until the validation loss stops falling",
    ),
    omniglot(
        "protonet",
        20,
        96.0,
        "Snell et al. 2017, table 1",
        "60-way episodes until the validation loss stops falling",
    ),
];

const fn omniglot(
    learner: &'static str,
    way: usize,
    percent: f64,
    paper: &'static str,
    protocol: &'static str,
) -> Published {
    Published {
        learner,
        source: "omniglot",
        way,
        shot: 1,
        percent,
        paper,
        protocol,
    }
}

/// Points below a published figure from which the table says what differs.
const CLOSE: f64 = 1.5;

/// The published figure of the learner on this test, which the run's manifest says or is known here, and what explains
/// the distance to it.
pub fn published(result: &TestResult, train: &TrainSettings) -> String {
    let key = (result.source.as_str(), result.way, result.shot);
    let row = PUBLISHED
        .iter()
        .find(|row| row.learner == result.learner && (row.source, row.way, row.shot) == key);
    let (percent, paper) = match (&result.published, row) {
        (Some(said), _) => (said.score, said.paper.as_str()),
        (None, Some(row)) => (row.percent, row.paper),
        (None, None) => return "–".to_owned(),
    };
    let below = percent - 100.0 * result.mean;
    let why = if below > CLOSE {
        let protocol = row.map_or(String::new(), |row| {
            format!(", published: {}", row.protocol)
        });
        format!(
            "; {below:.1} points below after {} iterations of {}{protocol}",
            result.iterations, train.meta_batch
        )
    } else {
        String::new()
    };
    format!("{percent} ({paper}){why}")
}

/// A figure of another system on the same test, whatever the learner.
struct Reference {
    data: &'static str,
    way: usize,
    shot: usize,
    percent: f64,
    what: &'static str,
}

/// Intent detection with all classes at once, in per cent: Casanueva et al., *Efficient intent detection
/// with dual sentence encoders*, NLP4ConvAI 2020, table 2.
const REFERENCES: [Reference; 4] = [
    intents("banking77", 77, 5, 77.75),
    intents("banking77", 77, 10, 85.19),
    intents("clinc150", 150, 5, 90.49),
    intents("clinc150", 150, 10, 93.26),
];

const fn intents(data: &'static str, way: usize, shot: usize, percent: f64) -> Reference {
    Reference {
        data,
        way,
        shot,
        percent,
        what: "two dual sentence encoders, USE + ConveRT, and a trained classifier (Casanueva et al. 2020, \
               table 2)",
    }
}

/// The figure of another system on all classes of this data, as a sentence; nothing where none is known.
pub fn reference(data: &str, way: usize, shot: usize) -> Option<String> {
    let row = REFERENCES
        .iter()
        .find(|row| data.contains(row.data) && (row.way, row.shot) == (way, shot))?;
    Some(format!("Published: {:.2} %, {}.", row.percent, row.what))
}

/// Mean total rewards of trials, by policy: Duan et al., *RL²*, 2016, tables 1 and 2; SNAIL by Mishra et al., 2018,
/// tables 3 and 4.
struct Returns {
    source: &'static str,
    /// Pulls and arms of a bandit; episodes of a trial, and 0.
    size: (u64, u64),
    of: &'static [(&'static str, f64)],
}

const RETURNS: [Returns; 3] = [
    Returns {
        source: "bernoulli_bandit",
        size: (10, 5),
        of: &[
            ("random", 5.0),
            ("greedy", 6.6),
            ("epsilon_greedy", 6.6),
            ("ucb1", 6.7),
            ("thompson", 5.7),
            ("gittins", 6.6),
            ("rl2", 6.7),
            ("snail_policy", 6.6),
        ],
    },
    Returns {
        source: "bernoulli_bandit",
        size: (100, 5),
        of: &[
            ("random", 49.9),
            ("greedy", 74.8),
            ("epsilon_greedy", 75.4),
            ("ucb1", 78.0),
            ("thompson", 74.7),
            ("gittins", 78.3),
            ("rl2", 78.7),
            ("snail_policy", 79.1),
        ],
    },
    Returns {
        source: "tabular_mdp",
        size: (10, 0),
        of: &[
            ("random", 100.1),
            ("greedy", 134.8),
            ("epsilon_greedy", 132.8),
            ("psrl", 138.1),
            ("opsrl", 144.1),
            ("ucrl2", 146.6),
            ("beb", 150.2),
            ("rl2", 156.2),
            ("snail_policy", 159.1),
        ],
    },
];

/// The published figure of a policy in environments of these sizes, with trials of so many episodes.
pub fn published_return(
    source: &str,
    sizes: &[(&str, u64)],
    episodes: usize,
    policy: &str,
) -> Option<f64> {
    let of = |key: &str| {
        sizes
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, size)| *size)
    };
    let size = match (of("pulls"), of("arms")) {
        (Some(pulls), Some(arms)) => (pulls, arms),
        _ => (episodes as u64, 0),
    };
    let mut rows = RETURNS.iter();
    let row = rows.find(|row| row.source == source && row.size == size)?;
    row.of
        .iter()
        .find(|(name, _)| *name == policy)
        .map(|(_, figure)| *figure)
}
