//! From files to labelled series, in the layouts of the UCR and UEA archives.

use std::path::Path;

use super::settings::LabelPlace;
use crate::data::formats::{Lines, read_tar};
use crate::error::{Error, Result};

/// The most points of a series.
const MAXIMUM_POINTS: usize = 1 << 20;

/// A series as a file has it.
pub(super) struct RawSeries {
    /// The name of its data set: that of the file, without `_TRAIN` and `_TEST`.
    pub set: String,
    pub label: String,
    /// Values of each channel, all of one length; not a number where one is missing.
    pub channels: Vec<Vec<f32>>,
}

/// What is done with each series, and the place that it has.
pub(super) type Take<'t> = dyn FnMut(RawSeries, &str) -> Result<()> + 't;

/// Reads the series of a file in order, by the ending of its name:
///
/// | ending | layout |
/// |---|---|
/// | `.tsv`, `.txt` | UCR 2018: a series a line, the label first, tabs (or spaces) between |
/// | `.csv` | likewise with commas; a first line that is no series is a header |
/// | `.ts` | UEA and sktime: `@` lines, then channels with `:` between, the label last |
/// | `.tar`, `.tar.gz` | such files |
///
/// the others also with `.gz`. A missing value is `NaN`, `?` or nothing. Missing values at the end of all
/// channels are no part of a series: so the UCR archive fills up series of unequal lengths.
pub(super) fn read(
    path: &Path,
    label: LabelPlace,
    wants: &dyn Fn(&str) -> bool,
    take: &mut Take<'_>,
) -> Result<()> {
    let name = path.to_string_lossy().to_ascii_lowercase();
    if name.ends_with(".tar") || name.ends_with(".tar.gz") || name.ends_with(".tgz") {
        let is_series = |name: &str| {
            let own = name.rsplit('/').next().unwrap_or(name);
            !own.starts_with('.') && Layout::of(name).is_some() && wants(&set_of(name))
        };
        return read_tar(path, is_series, |name, bytes| {
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::data(path, format!("member `{name}` is not UTF-8")))?;
            let mut reader = Reader::new(path, name, label, take)?;
            let mut lines = text.lines().zip(1..);
            lines.try_for_each(|(line, number)| reader.line(number, line))?;
            reader.finish()
        });
    }
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    if !wants(&set_of(&own)) {
        return Ok(());
    }
    let mut reader = Reader::new(path, "", label, take)?;
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line()? {
        reader.line(number, line)?;
    }
    reader.finish()
}

/// The name of the data set of a file.
pub(super) fn set_of(name: &str) -> String {
    let own = name.rsplit('/').next().unwrap_or(name);
    let own = own.strip_suffix(".gz").unwrap_or(own);
    let stem = own.rsplit_once('.').map_or(own, |(stem, _)| stem);
    let part = ["_TRAIN", "_TEST", "_train", "_test"];
    let stem = part
        .iter()
        .find_map(|part| stem.strip_suffix(part))
        .unwrap_or(stem);
    stem.to_owned()
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// Values in columns with this between; spaces too where none.
    Columns(Option<char>),
    Ts,
}

impl Layout {
    fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "tsv" => Some(Layout::Columns(Some('\t'))),
            "csv" => Some(Layout::Columns(Some(','))),
            "txt" => Some(Layout::Columns(None)),
            "ts" => Some(Layout::Ts),
            _ => None,
        }
    }
}

/// Reads the lines of one file.
struct Reader<'a, 't, 'f> {
    path: &'a Path,
    member: &'a str,
    set: String,
    layout: Layout,
    label: LabelPlace,
    take: &'f mut Take<'t>,
    /// Whether values have begun.
    in_data: bool,
    found: usize,
}

impl<'a, 't, 'f> Reader<'a, 't, 'f> {
    fn new(
        path: &'a Path,
        member: &'a str,
        label: LabelPlace,
        take: &'f mut Take<'t>,
    ) -> Result<Self> {
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if member.is_empty() { &own } else { member };
        let layout = Layout::of(name).ok_or_else(|| {
            let message = "has an ending that is not known; series are read from .tsv, .csv, .txt, .ts (each also \
                           with .gz) and .tar.gz";
            Error::data(path, message)
        })?;
        Ok(Reader {
            path,
            member,
            set: set_of(name),
            layout,
            label,
            take,
            in_data: layout != Layout::Ts,
            found: 0,
        })
    }

    fn place(&self, line: u64) -> String {
        match self.member {
            "" => format!("line {line}"),
            member => format!("`{member}`, line {line}"),
        }
    }

    fn finish(self) -> Result<()> {
        if self.found > 0 {
            return Ok(());
        }
        let what = match self.member {
            "" => "holds no series".to_owned(),
            member => format!("member `{member}` holds no series"),
        };
        Err(Error::data(self.path, what))
    }

    fn line(&mut self, number: u64, line: &str) -> Result<()> {
        let line = line.trim_end_matches(['\r', ' ']);
        if line.trim().is_empty() {
            return Ok(());
        }
        let place = self.place(number);
        let fault = |reason: String| Error::data(self.path, format!("{place} {reason}"));
        let (label, channels) = match self.layout {
            Layout::Ts => {
                if line.starts_with(['#', '@', '%']) || !self.in_data {
                    let key = line.split_whitespace().next().unwrap_or_default();
                    let is_stamped = key.eq_ignore_ascii_case("@timestamps")
                        && line.to_ascii_lowercase().ends_with("true");
                    if is_stamped {
                        let reason =
                            "says that values have time stamps; series without them are read";
                        return Err(fault(reason.to_owned()));
                    }
                    self.in_data |= key.eq_ignore_ascii_case("@data");
                    return Ok(());
                }
                let (values, label) = line
                    .rsplit_once(':')
                    .ok_or_else(|| fault("has no label: `values:label` is read".to_owned()))?;
                let channels = values.split(':').map(|channel| numbers(channel, Some(',')));
                (label, channels.collect::<Result<Vec<_>, _>>())
            }
            Layout::Columns(between) => {
                let cut = |c: char| match between {
                    Some(between) => c == between,
                    None => c == ',' || c.is_whitespace(),
                };
                let line = if between.is_none() { line.trim() } else { line };
                let parts = match self.label {
                    LabelPlace::First => line.split_once(cut),
                    LabelPlace::Last => line.rsplit_once(cut).map(|(rest, label)| (label, rest)),
                };
                let (label, values) =
                    parts.ok_or_else(|| fault("has no label and values".to_owned()))?;
                let values = numbers(values, between);
                // A header, where there is one, comes before all values.
                if values.is_err() && self.found == 0 && number == 1 && between == Some(',') {
                    return Ok(());
                }
                (label, values.map(|values| vec![values]))
            }
        };
        let mut channels = channels.map_err(|text| fault(format!("has `{text}` for a number")))?;
        let label = label.trim();
        if label.is_empty() {
            return Err(fault("has an empty label".to_owned()));
        }
        let length = channels.first().map_or(0, Vec::len);
        if let Some(other) = channels.iter().find(|channel| channel.len() != length) {
            let reason = format!("has channels of {length} and of {} points", other.len());
            return Err(fault(reason));
        }
        let is_there = |point: usize| channels.iter().any(|channel| !channel[point].is_nan());
        let length = (0..length)
            .rev()
            .find(|&point| is_there(point))
            .map_or(0, |last| last + 1);
        let points = (0..length).filter(|&point| is_there(point)).count();
        if points < 2 || length > MAXIMUM_POINTS {
            let reason = format!("has a series of {points} points; 2 to {MAXIMUM_POINTS} are read");
            return Err(fault(reason));
        }
        channels
            .iter_mut()
            .for_each(|channel| channel.truncate(length));
        self.found += 1;
        let series = RawSeries {
            set: self.set.clone(),
            label: label.to_owned(),
            channels,
        };
        (self.take)(series, &place)
    }
}

/// Numbers with a mark, or with commas and spaces, between; an error is the text that is none.
fn numbers(text: &str, between: Option<char>) -> Result<Vec<f32>, String> {
    let parse = |text: &str| {
        let text = text.trim();
        if matches!(text, "" | "?") || text.eq_ignore_ascii_case("nan") {
            return Ok(f32::NAN);
        }
        let parsed = text.parse::<f32>().ok().filter(|number| number.is_finite());
        parsed.ok_or_else(|| text.to_owned())
    };
    match between {
        Some(between) => text.split(between).map(parse).collect(),
        None => text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|text| !text.is_empty())
            .map(parse)
            .collect(),
    }
}
