//! Prepares a sweep: plans all of its runs before the first one starts.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use meta_core::toolkit::Toolkit;

use super::{
    plan::{Planned, Planner},
    runs::Run,
    search,
    selection::{Set, SweepSelection},
    worker,
};
use crate::{
    failure::{CommandError, Result},
    manifest::Manifest,
};

/// Refuses two points that are one run though their values differ: none of the values would be dropped
/// without a word.
fn check_same(first: &Planned, second: &Planned) -> Result<()> {
    let value = |planned: &Planned, name: &str| {
        let mut label = planned.label.iter();
        label.find_map(|(key, value)| (key == name).then(|| value.clone()))
    };
    let telling = second.label.iter().find_map(|(key, here)| {
        let there = value(first, key)?;
        (there != *here && !Manifest::is_identity(key)).then(|| (key.clone(), there, here.clone()))
    });
    match telling {
        None => Ok(()),
        Some((key, there, here)) => Err(CommandError::Usage(format!(
            "axis `{key}`: `{there}` and `{here}` are the same run, because results do not depend on \
             `{key}`; expected values that make different runs"
        ))),
    }
}

/// A sweep that is planned: every run is good.
pub struct Sweep<T> {
    /// Its manifests.
    pub sets: Vec<Set>,
    /// Plans more runs.
    pub planner: Planner<T>,
    /// Its runs.
    pub runs: Vec<Run>,
    /// Runs that are the same as others before them.
    pub same: usize,
    /// The folder of the sweep.
    pub folder: PathBuf,
    /// Folder with the data sets.
    pub data: Option<PathBuf>,
}

impl<T: Toolkit> Sweep<T> {
    /// Plans the sweep that is selected, for run folders in `runs_folder`; with `elsewhere`, for other
    /// machines than this one.
    ///
    /// # Errors
    /// Whatever is wrong with a manifest, an axis or a run.
    pub fn new(selection: &SweepSelection, runs_folder: &Path, elsewhere: bool) -> Result<Self> {
        let sets = selection.read()?;
        let force = selection.force || elsewhere;
        let planner = Planner::<T>::new(runs_folder, selection.data.as_deref(), force);
        let many = sets.len() > 1;
        let mut runs = Vec::new();
        // By identity: the manifest and the run.
        let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
        let mut same = 0;
        let mut identity = blake3::Hasher::new();
        for (place, set) in sets.iter().enumerate() {
            let points = match set.spec.tpe() {
                Some(search) => {
                    search::check(&set.spec, many)?;
                    search
                        .corners()
                        .iter()
                        .flat_map(|corner| set.spec.trial(0, corner))
                        .collect()
                }
                None => set.spec.points(),
            };
            let planned = set.plan(&planner, &points, many)?;
            if let Some(search) = &set.spec.search {
                let text = format!("{:?} {}\n", search, set.spec.search_seed);
                identity.update(text.as_bytes());
            }
            if set.spec.halving.is_some() || set.spec.tpe().is_some() {
                search::check_runs(&set.spec, &planned)?;
            }
            for planned in planned {
                identity.update(planned.hash.as_bytes());
                match seen.get(&planned.hash) {
                    None => {
                        seen.insert(planned.hash.clone(), (place, runs.len()));
                        runs.push(Run {
                            planned,
                            memory: set.spec.memory,
                        });
                    }
                    Some(&(there, first)) => {
                        if there == place {
                            check_same(&runs[first].planned, &planned)?;
                        }
                        same += 1;
                    }
                }
            }
        }
        let name = match (sets.as_slice(), runs.first()) {
            ([_], Some(run)) => run.planned.manifest.run.name.clone(),
            _ => "sweep".to_owned(),
        };
        let identity = identity.finalize().to_hex();
        Ok(Sweep {
            folder: runs_folder
                .join("sweeps")
                .join(format!("{name}-{}", &identity[..12])),
            sets,
            planner,
            runs,
            same,
            data: selection.data.clone(),
        })
    }

    /// The search that looks at results, if this is one.
    pub fn tpe(&self) -> Option<&Set> {
        self.sets.iter().find(|set| set.spec.tpe().is_some())
    }

    /// Writes the plan of `runs` into the folder of the sweep.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_plan(&self, runs: &[Run]) -> Result<()> {
        let lines: Vec<worker::Line> = runs
            .iter()
            .map(|run| worker::Line::new(&run.planned, self.data.as_deref(), run.memory))
            .collect();
        worker::write(&self.folder, &lines)
    }
}
