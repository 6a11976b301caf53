//! Files that NumPy, pandas, polars, pyarrow, safetensors and PyTorch wrote (`formats/write.py`), and files
//! that are damaged.

use std::path::{Path, PathBuf};

use meta_core::data::formats::{Keys, Table, read_labels, read_table};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    folder.join(name)
}

const LABELS: [&str; 6] = ["b", "é", "a,b", "b", "é", "a\"b"];
const NUMBERS: [&str; 6] = ["3", "1", "2", "3", "1", "-7"];
const SPLIT: [&str; 6] = ["train", "train", "train", "val", "test", "test"];

/// The numbers of the script: `arange(18).reshape(6, 3) / 8 - 1`.
fn numbers() -> Vec<f32> {
    (0..18).map(|number| number as f32 / 8.0 - 1.0).collect()
}

fn keys<'a>(features: &'a str, labels: &'a str, split: &'a str) -> Keys<'a> {
    Keys {
        features,
        labels,
        split,
    }
}

fn read(name: &str, keys: Keys<'_>) -> Table {
    read_table(&fixture(name), &keys).unwrap_or_else(|error| panic!("{error}"))
}

fn fault(name: &str, keys: Keys<'_>) -> String {
    let error = read_table(&fixture(name), &keys).expect_err(name);
    error.to_string()
}

#[track_caller]
fn assert_vectors(table: &Table, expected: &[f32]) {
    let (rows, width) = (table.vectors.rows(), table.vectors.width());
    assert_eq!(rows * width, expected.len());
    let mut all = vec![f32::NAN; expected.len()];
    table.vectors.read(0, &mut all).expect("readable");
    assert_eq!(all, expected);
    // Any row alone.
    for row in [rows - 1, 0, rows / 2] {
        let mut place = vec![f32::NAN; width];
        table.vectors.read(row, &mut place).expect("readable");
        assert_eq!(place, expected[row * width..(row + 1) * width]);
    }
    assert!(table.vectors.read(rows, &mut vec![0.0; width]).is_err());
}

#[track_caller]
fn assert_names(found: &Option<meta_core::data::formats::Text>, expected: [&str; 6]) {
    let found = found.as_ref().expect("a key was given");
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn numpy_arrays_of_every_type_and_order() {
    for name in ["f16", "f32", "f64", "big", "fortran"] {
        let table = read(&format!("{name}.npy"), keys("features", "", ""));
        assert_vectors(&table, &numbers());
    }
    for (name, expected) in [("labels", LABELS), ("bytes", LABELS), ("numbers", NUMBERS)] {
        let labels = read_labels(&fixture(&format!("{name}.npy")), "labels");
        assert_names(&Some(labels.expect("labels")), expected);
    }
    let message = read_labels(&fixture("objects.npy"), "labels").expect_err("a program");
    assert!(message.to_string().contains("Python objects"), "{message}");
}

#[test]
fn numpy_archives_stored_and_packed() {
    for name in ["stored.npz", "packed.npz"] {
        let table = read(name, keys("features", "labels", "split"));
        assert_vectors(&table, &numbers());
        assert_names(&table.labels, LABELS);
        assert_names(&table.split, SPLIT);
        // −7 in a byte without a sign.
        let table = read(name, keys("features", "numbers", ""));
        assert_names(&table.labels, ["3", "1", "2", "3", "1", "249"]);
    }
    let message = fault("stored.npz", keys("featuers", "labels", ""));
    assert!(
        message.contains("stored.npz: unknown array `featuers` (did you mean `features`?)"),
        "{message}"
    );
    let message = fault("packed.npz", keys("labels", "labels", ""));
    assert!(
        message.contains("array `labels` holds text, not vectors"),
        "{message}"
    );
    let message = fault("packed.npz", keys("features", "features", ""));
    assert!(message.contains("one name per row is needed"), "{message}");
}

#[test]
fn safetensors_by_name() {
    for features in ["features", "wide"] {
        let table = read("table.safetensors", keys(features, "labels", ""));
        assert_vectors(&table, &numbers());
        assert_names(&table.labels, NUMBERS);
    }
    let message = fault("table.safetensors", keys("features", "label", ""));
    assert!(message.contains("(did you mean `labels`?)"), "{message}");
}

#[test]
fn pytorch_tensors_and_dictionaries() {
    assert_vectors(&read("tensor.pt", keys("features", "", "")), &numbers());
    for features in ["features", "bfloat", "transposed", "nested.weight"] {
        let table = read("table.pt", keys(features, "labels", ""));
        assert_vectors(&table, &numbers());
        assert_names(&table.labels, LABELS);
    }
    assert_vectors(&read("table.pt", keys("tail", "", "")), &numbers()[9..]);
    let table = read("table.pt", keys("features", "numbers", ""));
    assert_names(&table.labels, NUMBERS);
    let message = fault("table.pt", keys("tail", "labels", ""));
    assert!(
        message.contains("has 6 rows, and there are 3 vectors"),
        "{message}"
    );
    let message = fault("code.pt", keys("features", "", ""));
    assert!(
        message.contains("PurePosixPath`, and nothing but"),
        "{message}"
    );
}

#[test]
fn text_in_columns() {
    for name in ["pandas.csv", "pandas.csv.gz", "polars.tsv"] {
        for features in ["*", "x*"] {
            let table = read(name, keys(features, "labels", "split"));
            assert_vectors(&table, &numbers());
            assert_eq!(table.vectors.names, ["x0", "x1", "x2"]);
            assert_names(&table.labels, LABELS);
            assert_names(&table.split, SPLIT);
        }
        let message = fault(name, keys("*", "labels", ""));
        assert!(
            message.contains("line 2, column `split` is `train`; a number is needed"),
            "{message}"
        );
        let message = fault(name, keys("features", "labels", ""));
        assert!(
            message.contains("unknown column `features`") && message.contains("`prefix*`"),
            "{message}"
        );
        let labels = read_labels(&fixture(name), "labels").expect("a column");
        assert_names(&Some(labels), LABELS);
    }
}

/// Each row at fault by its line, and what is no table at all.
#[test]
fn text_that_is_no_table_is_refused_by_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("table.csv");
    let message = |text: &[u8]| {
        std::fs::write(&path, text).expect("written");
        let read = read_table(&path, &keys("x*", "label", ""));
        read.expect_err("no table").to_string()
    };
    assert!(message(b"").contains("is empty"));
    assert!(
        message(b"x0,x1,label\n1,2,a\n1,a\n").contains("line 3 has 2 cells, and the header has 3")
    );
    assert!(message(b"x0,x1,label\n1,,a\n").contains("line 2, column `x1` is empty"));
    assert!(message(b"x0,x0,label\n1,1,a\n").contains("two columns `x0`"));
    assert!(message(b"x0,label\n1,\xff\n").contains("line 2, column 2 is not UTF-8"));
    assert!(message(b"y,label\n1,a\n").contains("unknown column `x*`"));
    assert!(message(b"\x1f\x8bnot gzip").contains("is not UTF-8"));
    // A quoted cell over two lines, and numbers in any spelling.
    std::fs::write(&path, b"x0,label\n\"1e1\",\"a\nb\"\n -.5 ,c\n").expect("written");
    let table = read_table(&path, &keys("x*", "label", "")).expect("a table");
    assert_vectors(&table, &[10.0, -0.5]);
    let labels = table.labels.expect("a key was given");
    assert_eq!(labels.distinct, ["a\nb", "c"]);
}

#[test]
fn labels_one_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("labels.txt");
    std::fs::write(&path, "\u{feff}b\r\né\n").expect("written");
    let labels = read_labels(&path, "any").expect("text");
    assert_eq!(labels.distinct, ["b", "é"]);
    let unknown = folder.path().join("labels.xlsx");
    std::fs::write(&unknown, "").expect("written");
    let message = read_labels(&unknown, "any")
        .expect_err("unknown")
        .to_string();
    assert!(message.contains("read are .npy, .npz"), "{message}");
}

/// Cut at every length and changed at every byte, a file is refused or read, and nothing worse.
#[test]
fn damaged_files_are_refused_or_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let every = [
        ("f16.npy", keys("features", "", "")),
        ("labels.npy", keys("features", "", "")),
        ("stored.npz", keys("features", "labels", "split")),
        ("packed.npz", keys("features", "labels", "split")),
        ("table.safetensors", keys("features", "labels", "")),
        ("table.pt", keys("transposed", "labels", "")),
        ("pandas.csv.gz", keys("*", "labels", "split")),
        ("list.parquet", keys("embedding", "class_name", "")),
        ("halves.parquet", keys("embedding", "class_name", "")),
    ];
    for (name, keys) in every {
        let whole = std::fs::read(fixture(name)).expect("a fixture");
        let path = folder.path().join(name);
        let attempt = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            let table = read_table(&path, &keys)?;
            let mut row = vec![0.0; table.vectors.width()];
            for number in 0..table.vectors.rows().min(8) {
                table
                    .vectors
                    .read(number, &mut row)
                    .expect("within the file");
            }
            Ok::<_, meta_core::Error>(table)
        };
        // Long files at some places, short ones at all.
        let step = (whole.len() / 400).max(1);
        for length in (0..whole.len()).step_by(step) {
            assert!(
                attempt(&whole[..length]).is_err(),
                "{name} of {length} bytes"
            );
        }
        for place in (0..whole.len()).step_by(step) {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[place] ^= change;
                // Either is right; that it comes back is what is tested.
                let _ = attempt(&changed);
            }
        }
    }
}

/// Sizes that a file only claims to have are refused before memory is taken for them.
#[test]
fn claims_are_checked_before_memory_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("claims.npy");
    let message = |descr: &str, shape: &str| {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': True, 'shape': ({shape}), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        let bytes = [
            &b"\x93NUMPY\x01\x00"[..],
            &length,
            header.as_bytes(),
            &[0; 8],
        ]
        .concat();
        std::fs::write(&path, bytes).expect("written");
        let read = read_table(&path, &keys("features", "", ""));
        read.expect_err("a claim").to_string()
    };
    assert!(message("<f8", "1000000000, 1000").contains("is cut short: the shape"));
    assert!(message("<f8", "18446744073709551615, 2").contains("are not those of the shape"));
    assert!(message("<U4000000000", "1").contains("is cut short"));
    assert!(message("<c16", "1").contains("holds `<c16`"));
    assert!(message("<f8", "1").contains("a vector per row is needed"));
    assert!(message("<f8", "1, 0").contains("are not those of the shape"));
}

mod parquet {
    use super::*;

    /// With the feature: columns of numbers, lists, halves. Without it: how to get it.
    #[test]
    fn columns_and_lists() {
        if !cfg!(feature = "parquet") {
            let message = fault("columns.parquet", keys("*", "labels", "split"));
            assert!(message.contains("--features parquet"), "{message}");
            return;
        }
        let table = read("columns.parquet", keys("x*", "labels", "split"));
        assert_vectors(&table, &numbers());
        assert_eq!(table.vectors.names, ["x0", "x1", "x2"]);
        assert_names(&table.labels, LABELS);
        assert_names(&table.split, SPLIT);
        let table = read("list.parquet", keys("embedding", "class_name", ""));
        assert_vectors(&table, &numbers());
        assert_names(&table.labels, LABELS);
        let table = read("halves.parquet", keys("embedding", "class_name", ""));
        assert_vectors(&table, &numbers());
        assert_names(&table.labels, NUMBERS);
        let message = fault("ragged.parquet", keys("embedding", "class_name", ""));
        assert!(
            message.contains("row 1 has 1 numbers, and row 0 has 2"),
            "{message}"
        );
        let message = fault("list.parquet", keys("class_name", "class_name", ""));
        assert!(
            message.contains("column `class_name` row 0 is text"),
            "{message}"
        );
        let labels = read_labels(&fixture("columns.parquet"), "labels").expect("a column");
        assert_names(&Some(labels), LABELS);
    }
}
