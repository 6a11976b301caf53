//! Compares searches by random and by TPE with equal budgets.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use meta_core::stats::{Interval, paired_t, paired_wilcoxon};

use crate::{
    failure::{CommandError, Result},
    run::folder::read_json,
    sweep::{search::SEARCH, spec::Method},
};

/// A table of searches with equal budgets: the best cost after some trials, and the difference at
/// the end, paired by the search seed.
///
/// # Errors
/// When a folder is not that of a search.
pub fn compare_searches(folders: &[PathBuf]) -> Result<String> {
    let mut curves: HashMap<String, BTreeMap<u64, Vec<f64>>> = HashMap::new();
    for folder in folders {
        let path = folder.join(SEARCH);
        let value = read_json(&path)?;
        let mut best = f64::INFINITY;
        let trials = value["trials"].as_array().into_iter().flatten();
        let curve = trials.map(|trial| {
            best = best.min(trial["cost"].as_f64().unwrap_or(f64::INFINITY));
            best
        });
        let curve: Vec<f64> = curve.collect();
        let method = value["method"].as_str().unwrap_or_default().to_owned();
        let seed = value["search_seed"].as_u64().unwrap_or(0);
        curves.entry(method).or_default().insert(seed, curve);
    }
    let refuse = || {
        CommandError::Usage(
            "expected searches by random and by tpe, of the same seeds and numbers of trials"
                .to_owned(),
        )
    };
    let of = |method: Method| curves.get(method.name()).ok_or_else(refuse);
    let (random, tpe) = (of(Method::Random)?, of(Method::Tpe)?);
    let budget = random.values().map(Vec::len).min().unwrap_or(0);
    let same = |(a, b): (&Vec<f64>, &Vec<f64>)| a.len() == budget && b.len() == budget;
    if !random.keys().eq(tpe.keys()) || !random.values().zip(tpe.values()).all(same) || budget == 0
    {
        return Err(refuse());
    }
    let mut out = String::from("| trials | random | tpe |\n|---|---|---|\n");
    let after = |curves: &BTreeMap<u64, Vec<f64>>, trials: usize| -> Vec<f64> {
        curves.values().map(|curve| curve[trials - 1]).collect()
    };
    let steps = (1..=4).map(|part| (budget * part).div_ceil(4));
    for trials in steps {
        let interval = |curves| Interval::t95(&after(curves, trials));
        out.push_str(&format!(
            "| {trials} | {:.4} | {:.4} |\n",
            interval(random),
            interval(tpe)
        ));
    }
    let (a, b) = (after(tpe, budget), after(random, budget));
    let t = paired_t(&a, &b);
    let wilcoxon = paired_wilcoxon(&a, &b);
    let wins = a.iter().zip(&b).filter(|(a, b)| a < b).count();
    out.push_str(&format!(
        "\nLowest cost so far, mean and 95 % interval over {} search seeds. TPE minus random after \
         {budget} trials, paired by seed: {:.4}, p = {:.3} (paired t), p = {:.3} (Wilcoxon); TPE is \
         lower for {wins} of {} seeds.\n",
        a.len(),
        t.difference,
        t.p_value,
        wilcoxon.p_value,
        a.len(),
    ));
    Ok(out)
}
