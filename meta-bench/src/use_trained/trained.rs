//! A trained learner, opened: from a run folder, or from the file that `meta fit` wrote.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::TensorData;
use meta_core::{
    Error,
    data::{Extras, ItemShape, LabelledRows, OwnItems, Preparation, TableColumn, Targets, Task},
    learner::LearnerList,
    nn::encoder::{Architecture, EncoderList},
    task::TaskSpec,
    toolkit::{Catalogue, Toolkit},
    train::answer::{Queries, Support},
};
use serde_json::{Value, json};

use super::{
    answer::Wording,
    fitted::{Content, FittedFile, MARK},
};
use crate::{
    experiment,
    failure::{CommandError, Result},
    manifest::{Manifest, base::Base, layer::Layer},
    run::{
        calibration::Calibration,
        checksums::check_fixed,
        eval::best_file,
        folder::{CALIBRATION, Found, MANIFEST, RECORD, inspect, read_json},
    },
};

/// Keys that may be changed of a trained learner.
const KEYS: [&str; 5] = ["learner.", "backend=", "device=", "precision=", "threads="];

/// A support with the names of its classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Names of the classes, in the order of their labels; none of a regression.
    pub classes: Vec<String>,
    /// The items to learn from.
    pub support: Support,
    /// A vector that describes each class, `[classes, v]`, for learners that were trained with such.
    pub class_vectors: Option<Vec<f32>>,
    /// The columns of the support, where it is a table whose rows may lack numbers: NaN there.
    pub columns: Option<Vec<TableColumn>>,
}

impl Fitted {
    /// Items of the classes of these names: each row of `inputs` with its label.
    ///
    /// ```
    /// let rows = vec![vec![0.0, 1.0], vec![1.0, 0.0], vec![0.9, 0.1]];
    /// let fitted = meta_bench::Fitted::of_rows(rows, &["cat", "dog", "dog"]);
    /// assert_eq!(fitted.classes, ["cat", "dog"]);
    /// assert_eq!(fitted.support.counts(), [1, 2]);
    /// ```
    pub fn of_rows<L: AsRef<str>>(rows: Vec<Vec<f32>>, labels: &[L]) -> Self {
        let names: BTreeMap<&str, u32> = labels.iter().map(|name| (name.as_ref(), 0)).collect();
        let numbers = names.into_keys().zip(0..);
        let numbers: BTreeMap<&str, u32> = numbers.collect();
        Fitted {
            classes: numbers.keys().map(|&name| name.to_owned()).collect(),
            support: Support {
                inputs: rows.concat(),
                targets: Targets::Classes(
                    labels.iter().map(|name| numbers[name.as_ref()]).collect(),
                ),
            },
            class_vectors: None,
            columns: None,
        }
    }

    /// Adds items of a class, which may be a new one.
    pub fn add(&mut self, class: &str, rows: Vec<Vec<f32>>) {
        let Targets::Classes(labels) = &mut self.support.targets else {
            return;
        };
        let known = self.classes.iter().position(|name| name == class);
        let label = known.unwrap_or_else(|| {
            self.classes.push(class.to_owned());
            // One is missing now.
            self.class_vectors = None;
            self.classes.len() - 1
        });
        labels.extend(rows.iter().map(|_| label as u32));
        self.support.inputs.extend(rows.into_iter().flatten());
    }
}

/// A trained learner of the toolkit `T`, ready to answer.
pub struct TrainedLearner<T: Toolkit> {
    /// The resolved manifest.
    pub manifest: Manifest,
    /// The record of the run.
    pub record: Value,
    /// What training did to its data.
    pub preparation: Preparation,
    /// What is known of its probabilities, after `meta calibrate`.
    pub calibration: Option<Calibration>,
    /// What it was fitted to, of a file.
    pub fitted: Option<Fitted>,
    pub(super) learner: T::Learners,
    pub(super) architecture: T::Encoders,
    /// Where the parameters come from, for messages.
    pub(super) path: PathBuf,
    pub(super) parameters: Vec<(String, TensorData)>,
    parameters_hash: String,
    manifest_text: String,
    pub(super) item: ItemShape,
    task: Task,
}

impl<T: Toolkit> TrainedLearner<T> {
    /// Opens a run folder, or the file that `meta fit` wrote. The data of the run is not needed.
    ///
    /// ```no_run
    /// use meta_bench::{Fitted, Trained};
    ///
    /// let trained = Trained::open("runs/protonet-1f2e3d4c5b6a".as_ref())?;
    /// let rows = vec![vec![0.0; 784], vec![1.0; 784]];
    /// let pets = Fitted::of_rows(rows, &["cat", "dog"]);
    /// for answer in trained.predict(&pets, &[vec![0.1; 784]])? {
    ///     println!("{:?} {:?}", answer.label, answer.probability);
    /// }
    /// # Ok::<(), meta_bench::failure::CommandError>(())
    /// ```
    ///
    /// # Errors
    /// For what is neither, is damaged, or names what this build does not have.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &[])
    }

    /// The same with changes to `learner.*` (but its name), `backend`, `device`, `precision` or `threads`.
    ///
    /// # Errors
    /// As [`TrainedLearner::open`], and for other changes.
    pub fn open_with(path: &Path, changes: &[String]) -> Result<Self> {
        if path.is_dir() || !path.exists() {
            Self::of_run(path, changes)
        } else {
            Self::of_file(path, changes)
        }
    }

    fn of_run(path: &Path, changes: &[String]) -> Result<Self> {
        if inspect(path)? == Found::Nothing {
            return Err(CommandError::Usage(format!(
                "{}: expected a run folder, or a file that `meta fit` wrote; found nothing",
                path.display()
            )));
        }
        check_fixed(path)?;
        let record = read_json(&path.join(RECORD))?;
        let text = meta_core::files::read_text(&path.join(MANIFEST), 1 << 24)?;
        let (parameters_hash, parameters) = best_file(path)?;
        let calibration = Calibration::read(&path.join(CALIBRATION), &parameters_hash)?;
        let (manifest, item, task) = Self::resolve(&path.join(MANIFEST), &text, &record, changes)?;
        let source = &manifest.source;
        let described = &record["data"]["description"];
        let preparation = Preparation::of_run(&source.name, &source.settings, described, item)?;
        let content = Content {
            about: MARK.to_owned(),
            calibration,
            classes: Vec::new(),
            labels: None,
            manifest: text,
            parameters: parameters_hash,
            preparation,
            columns: None,
            record,
        };
        Self::assemble(path, content, parameters, None, manifest, (item, task))
    }

    fn of_file(path: &Path, changes: &[String]) -> Result<Self> {
        let FittedFile {
            content,
            parameters,
            support,
            class_vectors,
        } = FittedFile::read(path)?;
        let fitted = Fitted {
            classes: content.classes.clone(),
            support,
            class_vectors,
            columns: content.columns.clone(),
        };
        let (manifest, item, task) =
            Self::resolve(path, &content.manifest, &content.record, changes)?;
        let mut trained = Self::assemble(
            path,
            content,
            parameters,
            Some(fitted.clone()),
            manifest,
            (item, task),
        )?;
        trained.suit(&fitted)?;
        Ok(trained)
    }

    /// Whether it answers for tables of any features, some of whose numbers may be missing: it was trained on
    /// tables, and neither learner nor encoder is bound to their width.
    pub fn takes_tables(&self) -> bool {
        let features = self.item.features();
        let passes_on =
            (self.architecture.width(), self.architecture.activations()) == (features, features);
        let mut sources = T::sources().into_iter();
        let of_tables =
            sources.any(|entry| entry.tables && entry.name == self.manifest.source.name);
        of_tables && passes_on && self.learner.any_features()
    }

    /// The most features that it takes.
    pub fn most_features(&self) -> usize {
        let most = self.manifest.learner.settings["max_features"].as_u64();
        most.map_or(usize::MAX, |most| most as usize)
    }

    /// Takes items of the width of the columns of `fitted`, where it has such.
    ///
    /// # Errors
    /// For a width that the encoder does not take.
    pub fn suit(&mut self, fitted: &Fitted) -> Result<()> {
        let Some(columns) = &fitted.columns else {
            return Ok(());
        };
        self.item = ItemShape {
            height: 1,
            width: 1,
            channels: columns.len(),
        };
        self.preparation = Preparation::Vector {
            width: columns.len(),
        };
        let encoder = &self.manifest.encoder;
        self.architecture = T::Encoders::new(&encoder.name, &encoder.settings, self.item)
            .map_err(|error| self.manifest.locate(error))?;
        Ok(())
    }

    /// The support that a table makes.
    pub fn fit_table(&self, table: LabelledRows) -> Fitted {
        let columns = Some(table.columns);
        match self.task {
            Task::Regression { .. } => Fitted {
                classes: Vec::new(),
                support: Support {
                    inputs: table.rows.concat(),
                    targets: Targets::Values(table.values),
                },
                class_vectors: None,
                columns,
            },
            _ => Fitted {
                columns,
                ..Fitted::of_rows(table.rows, &table.labels)
            },
        }
    }

    /// The manifest with changes, and the items and tasks of the run.
    fn resolve(
        path: &Path,
        text: &str,
        record: &Value,
        changes: &[String],
    ) -> Result<(Manifest, ItemShape, Task)> {
        let mut layers = Vec::new();
        for change in changes {
            let squeezed = change.replace(' ', "");
            let allowed = KEYS.iter().any(|key| squeezed.starts_with(key));
            if !allowed || squeezed.starts_with("learner.name=") {
                return Err(CommandError::Usage(format!(
                    "`{change}` cannot change in a trained learner; what can change: learner.* except its \
                     name, backend, device, precision, threads"
                )));
            }
            layers.push(Layer::parse(change)?);
        }
        let base = Base::of(path, text)?;
        let manifest = Manifest::from_base(&base, &layers, &Catalogue::of::<T>())?;
        let described = &record["data"]["description"];
        let missing = || {
            let what = "the record does not say what the items of the run are";
            CommandError::Usage(format!("{}: {what}", path.display()))
        };
        let item =
            serde_json::from_value(described["item_shape"].clone()).map_err(|_| missing())?;
        let task: Task =
            serde_json::from_value(described["task"].clone()).map_err(|_| missing())?;
        if task.is_acting() {
            return Err(CommandError::Usage(format!(
                "{}: `{}` acts in environments, and answers for no items",
                path.display(),
                manifest.learner.name
            )));
        }
        Ok((manifest, item, task))
    }

    fn assemble(
        path: &Path,
        content: Content,
        parameters: Vec<(String, TensorData)>,
        fitted: Option<Fitted>,
        manifest: Manifest,
        (item, task): (ItemShape, Task),
    ) -> Result<Self> {
        let encoder = &manifest.encoder;
        let architecture = T::Encoders::new(&encoder.name, &encoder.settings, item)
            .map_err(|error| manifest.locate(error))?;
        Ok(TrainedLearner {
            learner: experiment::learner_settings::<T>(&manifest)?,
            architecture,
            path: path.to_owned(),
            preparation: content.preparation,
            calibration: content.calibration,
            record: content.record,
            manifest_text: content.manifest,
            parameters_hash: content.parameters,
            manifest,
            fitted,
            parameters,
            item,
            task,
        })
    }

    /// Classification or regression.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Hash of the file of the parameters.
    pub fn parameters_hash(&self) -> &str {
        &self.parameters_hash
    }

    /// Whether an answer depends on other queries of its task: by the learner's design, or because its
    /// normalisation averages over them.
    pub fn is_transductive(&self) -> bool {
        self.architecture.statistics().transductive() || self.learner.transductive()
    }

    /// The tasks that a support makes, and whether the learner reads classes with fewer items as they are.
    ///
    /// # Errors
    /// For a support that is no task, or of a way that the learner has no outputs for; that names the
    /// learners that can. For class vectors that are missing, or that the training did not have.
    pub fn spec(&self, fitted: &Fitted) -> Result<(TaskSpec, bool)> {
        let support = &fitted.support;
        let shape = support.shape(self.task)?;
        let train = self.manifest.data.train_shape();
        let info = self.learner.info();
        if self.task == Task::Classification && !info.any_way && shape.way != train.way {
            let entries = T::Learners::entries();
            let able = entries.iter().filter(|entry| entry.info.any_way);
            let able: Vec<&str> = able.map(|entry| entry.info.name).collect();
            return Err(CommandError::Usage(format!(
                "{}: `{}` was trained on tasks of {} classes and has one output for each, and the support has \
                 {}; learners for any number of classes: {}",
                self.path.display(),
                info.name,
                train.way,
                shape.way,
                able.join(", ")
            )));
        }
        let described = &self.record["data"];
        let mut spec = TaskSpec {
            item: self.item,
            task: self.task,
            train,
            test: shape,
            train_classes: described["train_classes"].as_u64().unwrap_or(0) as usize,
            extras: Extras {
                class_vector: self.class_vector(fitted)?,
                ..Extras::default()
            },
        };
        let at = |error: Error| self.manifest.locate(error);
        if fitted.columns.is_some() {
            spec.extras.items = true;
            spec.extras.numbers = true;
            self.learner.check(&self.architecture, &spec).map_err(at)?;
            return Ok((spec, true));
        }
        if support.is_uneven() {
            spec.extras.items = true;
            if self.learner.check(&self.architecture, &spec).is_ok() {
                return Ok((spec, true));
            }
            spec.extras.items = false;
        }
        self.learner.check(&self.architecture, &spec).map_err(at)?;
        Ok((spec, false))
    }

    /// Width of the vectors of classes, which the training and the support must both have or both lack.
    fn class_vector(&self, fitted: &Fitted) -> Result<usize> {
        let described = &self.record["data"]["description"]["class_vector_width"];
        let trained = described.as_u64().unwrap_or(0) as usize;
        let given = fitted.class_vectors.as_ref().map_or(0, Vec::len);
        let classes = fitted.classes.len().max(1);
        let refuse = |what: String| {
            let path = self.path.display();
            Err(CommandError::Usage(format!("{path}: {what}")))
        };
        match (trained, given) {
            (0, 0) => Ok(0),
            (0, _) => refuse(
                "the run was trained without vectors of classes; leave out --class-vectors"
                    .to_owned(),
            ),
            (_, 0) => refuse(format!(
                "the run was trained with a vector of {trained} numbers for each class \
                 (`data.class_vectors`); give those of your classes by --class-vectors FILE"
            )),
            _ if given == trained * classes => Ok(trained),
            _ => refuse(format!(
                "the vectors of classes have {} numbers, and the run was trained on {trained}",
                given / classes
            )),
        }
    }

    /// What may share a pass, of tasks of this shape.
    pub fn queries(&self, spec: &TaskSpec, together: bool) -> Queries {
        let alone = self.is_transductive() || self.learner.queries_alone();
        let shape = spec.test;
        match together {
            true => Queries::Together,
            false => Queries::one_by_one(alone, shape, self.architecture.activations()),
        }
    }

    /// How predictions become answers, with the `top` most probable classes of each.
    pub fn wording<'a>(&'a self, fitted: &'a Fitted, top: usize) -> Wording<'a> {
        Wording {
            task: self.task,
            classes: &fitted.classes,
            lexicon: self.preparation.lexicon(),
            top: top.max(1),
            calibration: self.calibration.as_ref(),
        }
    }

    /// What answers depend on beside the items; `together` says whether queries are answered together.
    pub fn header(&self, fitted: &Fitted, together: bool) -> Value {
        let mut header = json!({
            "run": self.record["hash"].as_str().map(|hash| &hash[..hash.len().min(12)]),
            "learner": self.manifest.learner.name,
            "statistics": self.architecture.statistics(),
            "transductive": together && self.is_transductive(),
            "parameters": self.parameters_hash(),
        });
        if self.task == Task::Classification {
            header["classes"] = json!(fitted.classes.len());
            header["temperature"] = json!(self.wording(fitted, 1).temperature());
            header["calibrated"] = json!(self.calibration.is_some());
        }
        header
    }

    /// The support that labelled items make, in the order of the names of their classes.
    ///
    /// # Errors
    /// Naming the item that cannot be read.
    pub fn fit(&self, items: &OwnItems) -> Result<Fitted> {
        let rows = items.read(0, items.len())?.into_iter();
        let rows: Vec<Vec<f32>> = rows.collect::<Result<_, Error>>()?;
        if let Task::Regression { .. } = self.task {
            let values = items.targets(0, items.len())?.unwrap_or_default();
            return Ok(Fitted {
                classes: Vec::new(),
                support: Support {
                    inputs: rows.concat(),
                    targets: Targets::Values(values),
                },
                class_vectors: None,
                columns: None,
            });
        }
        if let Task::Sequences { .. } = self.task {
            let symbols = items.targets(0, items.len())?.unwrap_or_default();
            let symbols = symbols.into_iter().map(|symbol| symbol as u32).collect();
            return Ok(Fitted {
                classes: Vec::new(),
                support: Support {
                    inputs: rows.concat(),
                    targets: Targets::Sequences(symbols),
                },
                class_vectors: None,
                columns: None,
            });
        }
        let labels: Vec<&str> = items
            .labels()
            .into_iter()
            .flat_map(|text| text.iter())
            .collect();
        Ok(Fitted::of_rows(rows, &labels))
    }

    /// Writes the learner with a support to a file, which answers without the run.
    ///
    /// # Errors
    /// When something else is there, or it cannot be written.
    pub fn write(&self, fitted: &Fitted, path: &Path) -> Result<()> {
        let labels = match &fitted.support.targets {
            Targets::Classes(labels) => Some(labels.clone()),
            Targets::Values(_) | Targets::Sequences(_) => None,
        };
        let content = Content {
            about: MARK.to_owned(),
            calibration: self.calibration.clone(),
            classes: fitted.classes.clone(),
            labels,
            manifest: self.manifest_text.clone(),
            parameters: self.parameters_hash.clone(),
            preparation: self.preparation.clone(),
            columns: fitted.columns.clone(),
            record: self.record.clone(),
        };
        FittedFile {
            content,
            parameters: self.parameters.clone(),
            support: fitted.support.clone(),
            class_vectors: fitted.class_vectors.clone(),
        }
        .write(path)
    }
}
