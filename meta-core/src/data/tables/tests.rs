//! Tables written here, read back: rules for columns, tasks from tables, groups, rows and masks, and what is
//! refused.

use super::*;
use std::fs;
use std::io::Write;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        if name.ends_with(".gz") {
            let file = fs::File::create(path).expect("a file");
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(text.as_bytes()).expect("written");
            packed.finish().expect("written");
        } else {
            fs::write(path, text).expect("written");
        }
    }
    folder
}

fn settings(path: &Path) -> TablesSettings {
    TablesSettings {
        path: path.to_string_lossy().into_owned(),
        validation_fraction: 0.0,
        test_fraction: 1.0,
        ..TablesSettings::default()
    }
}

/// The row in the id of an item.
fn row_of(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

/// `count` rows of two classes: a number that tells them apart, a category, a number that is missing in every
/// seventh row.
fn two_classes(count: usize) -> String {
    let rows = (0..count).map(|row| {
        let class = ["no", "yes"][row % 2];
        let gap = if row % 7 == 0 {
            String::from("NA")
        } else {
            format!("{}.5", row % 5)
        };
        format!(
            "{},{},{gap},{class}\n",
            row * 10,
            ["red", "green", "blue"][row % 3]
        )
    });
    let header = "size,colour,gap,target\n".to_owned();
    rows.fold(header, |text, row| text + &row)
}

fn message(settings: &TablesSettings) -> String {
    settings.build(None).expect_err("refused").to_string()
}

/// The first item of an episode is a row of the file, in the units of the file, with what is missing.
#[test]
fn rows_are_those_of_the_file() {
    let folder = folder(&[("a.csv", &two_classes(40)), ("b.csv.gz", &two_classes(60))]);
    let source = settings(folder.path()).build(None).expect("read");
    assert_eq!(
        source.unit_names(Split::Test).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(source.item_shape().channels, 3);
    let shape = EpisodeShape::new(2, 5, 4);
    source.check(Split::Test, shape).expect("enough");
    let mut gaps = 0;
    for index in 0..10 {
        let episode = source
            .episode(Seed(1), Split::Test, shape, index)
            .expect("drawn");
        let (mut seen, most) = (HashSet::new(), if index % 2 == 0 { 40 } else { 60 });
        for items in [&episode.support, &episode.query] {
            let Targets::Classes(labels) = &items.targets else {
                panic!("classes");
            };
            let numbers = items
                .mask
                .as_ref()
                .and_then(|mask| mask.numbers.clone())
                .expect("numbers");
            for (item, x) in items.inputs.chunks_exact(3).enumerate() {
                let row = row_of(items.ids[item]);
                assert!(row < most && seen.insert(row));
                assert_eq!(x[0], (row * 10) as f32);
                // In the order of names: blue, green, red.
                let there = &numbers[3 * item..3 * item + 3];
                let expected = [2.0, 1.0, 0.0][row % 3];
                assert!(!there[1] || x[1] == expected);
                assert_eq!(there[2], !row.is_multiple_of(7));
                gaps += usize::from(!there[2]);
                assert_eq!(
                    x[2],
                    if there[2] {
                        (row % 5) as f32 + 0.5
                    } else {
                        0.0
                    }
                );
                let class = episode.classes[labels[item] as usize];
                let name = ["no", "yes"][row % 2];
                assert_eq!(source.class_name(class).as_deref(), Some(name));
            }
        }
        let again = source
            .episode(Seed(1), Split::Test, shape, index)
            .expect("drawn");
        assert_eq!(episode, again);
    }
    assert!(gaps > 0);
}

/// Statistics are those of the support: its columns have mean 0 and variance 1 where nothing is missing, and
/// 0 stands for what is; a category that the support does not have is missing.
#[test]
fn the_support_alone_says_the_units() {
    let folder = folder(&[("a.csv", &two_classes(60)), ("b.csv", &two_classes(30))]);
    let settings = TablesSettings {
        fill: Fill::Mean,
        ..settings(folder.path())
    };
    let source = settings.build(None).expect("read");
    assert!(!source.extras().numbers);
    let shape = EpisodeShape::new(2, 8, 5);
    for index in 0..6 {
        let episode = source
            .episode(Seed(2), Split::Test, shape, index)
            .expect("drawn");
        assert!(episode.support.mask.is_none());
        for feature in 0..3 {
            let column = episode.support.inputs.iter().skip(feature).step_by(3);
            let column: Vec<f64> = column.map(|&x| f64::from(x)).collect();
            let mean = column.iter().sum::<f64>() / 16.0;
            let square = column.iter().map(|x| x * x).sum::<f64>() / 16.0;
            assert!(mean.abs() < 1e-5);
            // What is missing counts as 0; the last column has gaps.
            let bound = if feature == 2 { 0.6 } else { 1.0 - 1e-5 };
            assert!((bound..1.0 + 1e-5).contains(&square), "{feature}: {square}");
        }
    }
    let masked = TablesSettings {
        fill: Fill::Mask,
        ..settings
    };
    let source = masked.build(None).expect("read");
    let shape = EpisodeShape::new(2, 1, 6);
    let mut unseen = 0;
    for index in 0..8 {
        let episode = source
            .episode(Seed(3), Split::Test, shape, index)
            .expect("drawn");
        let known: HashSet<usize> = episode
            .support
            .ids
            .iter()
            .map(|&id| row_of(id) % 3)
            .collect();
        let numbers = episode
            .query
            .mask
            .and_then(|mask| mask.numbers)
            .expect("numbers");
        for (item, &id) in episode.query.ids.iter().enumerate() {
            assert_eq!(numbers[3 * item + 1], known.contains(&(row_of(id) % 3)));
            unseen += usize::from(!numbers[3 * item + 1]);
        }
    }
    assert!(unseen > 0);
}

/// Files without a header, a target that is a number, and fixed masks: each table and mask once, support of
/// the rows that the mask leaves.
#[test]
fn fixed_masks_are_read() {
    let data: String = (0..20)
        .map(|row| format!("{row},{},{}\n", row % 3, 2 * row))
        .collect();
    let masks: String = (0..20)
        .map(|row| format!("{},{}\n", u8::from(row < 4), u8::from(row > 13)))
        .collect();
    let folder = folder(&[
        ("one.data.csv.gz", &data),
        ("one.test_mask.csv.gz", &masks),
        ("two.data.csv", &data),
        ("two.test_mask.csv", &masks),
    ]);
    let settings = TablesSettings {
        task: TableTask::Regression,
        header: false,
        ..settings(folder.path())
    };
    let source = settings.build(None).expect("read");
    assert_eq!(
        source.unit_names(Split::Test).collect::<Vec<_>>(),
        ["one", "two"]
    );
    let shape = EpisodeShape::new(1, 12, 4);
    source.check(Split::Test, shape).expect("enough");
    for index in 0..4 {
        let episode = source
            .episode(Seed(4), Split::Test, shape, index)
            .expect("drawn");
        let tests = |row: u64| if index / 2 == 0 { row < 4 } else { row > 13 };
        assert!(episode.query.ids.iter().all(|&row| tests(row)));
        assert!(episode.support.ids.iter().all(|&row| !tests(row)));
        let Targets::Values(values) = &episode.support.targets else {
            panic!("values");
        };
        let mean = values.iter().sum::<f32>() / 12.0;
        let square = values.iter().map(|y| y * y).sum::<f32>() / 12.0;
        assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5);
    }
    // Four rows test with the first mask, six with the second.
    let refused = source
        .check(Split::Test, EpisodeShape::new(1, 12, 5))
        .expect_err("too few");
    assert!(refused.to_string().contains("data.uneven"), "{refused}");
    let uneven = TablesSettings {
        uneven: true,
        ..settings
    };
    let source = uneven.build(None).expect("read");
    let shape = EpisodeShape::new(1, 30, 9);
    source
        .check(Split::Test, shape)
        .expect("as many as there are");
    let episode = source
        .episode(Seed(4), Split::Test, shape, 3)
        .expect("drawn");
    let count = |items: &Items| {
        (0..items.len())
            .filter(|&item| items.is_there(item))
            .count()
    };
    assert_eq!((count(&episode.support), count(&episode.query)), (14, 6));
}

/// One table gives tasks by a column of groups, or by its rows; without either, the message says what is
/// needed.
#[test]
fn one_table_needs_groups_or_resampling() {
    let header = "x,hospital,target\n".to_owned();
    let rows = (0..48).map(|row| {
        // The third hospital has one class alone.
        let hospital = row % 3;
        let class = if hospital == 2 {
            "a"
        } else {
            ["a", "b"][row / 3 % 2]
        };
        format!("{row},h{hospital},{class}\n")
    });
    let text = rows.fold(header, |text, row| text + &row);
    let folder = folder(&[("wards.csv", &text)]);
    let path = folder.path().join("wards.csv");
    let plain = settings(&path);
    let refused = message(&plain);
    for part in ["one table without groups", "data.group", "data.resample"] {
        assert!(refused.contains(part), "{refused}");
    }
    let grouped = TablesSettings {
        group: "hospital".to_owned(),
        ..plain.clone()
    };
    let source = grouped.build(None).expect("read");
    assert_eq!(source.item_shape().channels, 1);
    assert_eq!(
        source.unit_names(Split::Test).collect::<Vec<_>>(),
        ["wards/h0", "wards/h1"]
    );
    let episode = source
        .episode(Seed(5), Split::Test, EpisodeShape::new(2, 3, 2), 1)
        .expect("drawn");
    assert!(episode.support.ids.iter().all(|&id| row_of(id) % 3 == 1));
    let resampled = TablesSettings {
        resample: true,
        validation_fraction: 0.3,
        test_fraction: 0.3,
        leave_out: vec!["hospital".to_owned()],
        ..plain
    };
    let source = resampled.build(None).expect("read");
    let mut rows: [HashSet<usize>; 3] = Default::default();
    for (split, rows) in Split::ALL.into_iter().zip(&mut rows) {
        for index in 0..30 {
            let episode = source.episode(Seed(6), split, EpisodeShape::new(2, 1, 1), index);
            let episode = episode.expect("drawn");
            let ids = episode.support.ids.iter().chain(&episode.query.ids);
            rows.extend(ids.map(|&id| row_of(id)));
        }
    }
    assert!(rows.iter().all(|own| !own.is_empty()));
    assert!(rows[0].is_disjoint(&rows[1]) && rows[0].is_disjoint(&rows[2]));
    assert!(rows[1].is_disjoint(&rows[2]));
}

/// From 95 % of numbers on a column is one of numbers, and what is none is named; below, it is of categories.
/// A declaration decides.
#[test]
fn kinds_of_columns() {
    let column = |wrong: usize| {
        let rows = (0..100).map(|row| {
            let x = if row < wrong {
                format!("t{row}")
            } else {
                row.to_string()
            };
            format!("{x},{}\n", ["a", "b"][row % 2])
        });
        rows.fold("x,target\n".to_owned(), |text, row| text + &row)
    };
    let read = |wrong: usize, change: fn(&mut TablesSettings)| {
        let folder = folder(&[("a.csv", &column(wrong)), ("b.csv", &two_classes(20))]);
        let mut settings = settings(folder.path());
        change(&mut settings);
        settings
            .build(None)
            .map(|source| source.tables[0].columns[0].clone())
    };
    assert!(matches!(read(0, |_| ()), Ok(Column::Numbers(_))));
    assert!(matches!(read(6, |_| ()), Ok(Column::Categories(_, 100))));
    let refused = read(5, |_| ()).expect_err("text").to_string();
    assert!(
        refused.contains("a.csv") && refused.contains("line 2, column `x` is `t0`"),
        "{refused}"
    );
    let declared = read(5, |settings| settings.categorical = vec!["x".to_owned()]);
    assert!(matches!(declared, Ok(Column::Categories(..))));
    let refused = read(6, |settings| settings.numeric = vec!["x".to_owned()]);
    assert!(refused.is_err());
}

/// Indicators: a feature for each of three categories, one for two.
#[test]
fn categories_may_be_indicators() {
    let folder = folder(&[("a.csv", &two_classes(40)), ("b.csv", &two_classes(40))]);
    let settings = TablesSettings {
        indicators: true,
        ..settings(folder.path())
    };
    let source = settings.build(None).expect("read");
    assert_eq!(source.item_shape().channels, 5);
    let episode = source
        .episode(Seed(7), Split::Test, EpisodeShape::new(2, 6, 2), 0)
        .expect("drawn");
    for (x, row) in episode
        .support
        .inputs
        .chunks_exact(5)
        .zip(&episode.support.ids)
    {
        let expected = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]][row_of(*row) % 3];
        assert_eq!(x[1..4], expected);
    }
}

/// Every fault names the file, and the column and the line where that is what is wrong.
#[test]
fn what_cannot_be_read_is_named() {
    let other = two_classes(20);
    let refused = |text: &str, change: fn(&mut TablesSettings)| {
        let folder = folder(&[("bad.csv", text), ("other.csv", &other)]);
        let mut settings = settings(folder.path());
        change(&mut settings);
        let message = message(&settings);
        message
            .rsplit_once("bad.csv: ")
            .map_or(message.clone(), |(_, rest)| rest.to_owned())
    };
    let none = |_: &mut TablesSettings| ();
    let found = refused("x,y,target\n1,2,a\n3,4,\n", none);
    assert!(
        found.starts_with("line 3, column `target` is empty, and it is the target"),
        "{found}"
    );
    let found = refused("x,target\n1,a\n2,a\n", none);
    assert!(
        found.starts_with("column `target` has one class alone, `a`"),
        "{found}"
    );
    let found = refused("x,empty,target\n1,,a\n2,NA,b\n", none);
    assert!(
        found.starts_with("column `empty` has no value in any row"),
        "{found}"
    );
    let found = refused("x,y,target\n1,1,a\n2,2,b\n3,1,a\n4,1,b\n", |s| {
        s.max_features = 1
    });
    assert!(
        found.starts_with("has 2 features, more than `data.max_features = 1`"),
        "{found}"
    );
    let found = refused("x,target\n1,3\n2,high\n", |s| {
        s.task = TableTask::Regression
    });
    assert!(
        found.starts_with("line 3, column `target` is `high`"),
        "{found}"
    );
    let found = refused("x,klass\n1,a\n2,b\n", |s| s.target = "target".to_owned());
    assert!(
        found.contains("`target`") && found.contains("`data.target` names"),
        "{found}"
    );
    let found = refused("x,target\n1,a\n2,b\n3,a\n", none);
    assert!(found.starts_with("has 1 row(s) of class `b`"), "{found}");
    let found = refused("x,target\n1,a\n2,b,c\n", none);
    assert!(found.contains("line 3"), "{found}");
    let found = refused("x,target\n", none);
    assert!(found.starts_with("has no rows"), "{found}");
    let found = refused(&other, |s| s.leave_out = vec!["sizes".to_owned()]);
    assert!(found.contains("`data.leave_out = sizes`"), "{found}");
    assert!(message(&TablesSettings::default()).contains("`data.path"));
}

/// Masks that do not fit their table, or hold something else.
#[test]
fn masks_that_do_not_fit_are_named() {
    let data = "1,2\n3,4\n5,6\n";
    let refused = |name: &str, masks: &str| {
        let folder = folder(&[("a.data.csv", data), (name, masks)]);
        let settings = TablesSettings {
            task: TableTask::Regression,
            header: false,
            ..settings(folder.path())
        };
        message(&settings)
    };
    assert!(refused("a.test_mask.csv", "0\n1\n").contains("has 2 rows, and its table has 3"));
    assert!(refused("a.test_mask.csv", "0\n1\n2\n").contains("line 3, column `column 1` is `2`"));
    assert!(refused("a.test_mask.csv", "1\n1\n1\n").contains("leaves no row"));
    assert!(refused("b.test_mask.csv", "0\n0\n1\n").contains("no table `b`"));
}

/// Where the files lie and how they are packed is not their content.
#[test]
fn the_hash_is_of_the_content() {
    let text = two_classes(20);
    let hash = |files: &[(&str, &str)], change: fn(&mut TablesSettings)| {
        let folder = folder(files);
        let mut settings = settings(folder.path());
        change(&mut settings);
        settings.build(None).expect("read").content_hash()
    };
    let plain = hash(&[("a.csv", &text), ("b.csv", &text)], |_| ());
    assert_eq!(
        plain,
        hash(&[("a.csv.gz", &text), ("b.csv", &text)], |_| ())
    );
    assert_ne!(plain, hash(&[("a.csv", &text), ("c.csv", &text)], |_| ()));
    assert_ne!(
        plain,
        hash(&[("a.csv", &text), ("b.csv", &two_classes(21))], |_| ())
    );
    assert_ne!(
        plain,
        hash(&[("a.csv", &text), ("b.csv", &text)], |s| s.indicators =
            true)
    );
}
