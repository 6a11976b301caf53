//! NumPy's `.npy` and `.npz`: one array, or arrays by name in a zip archive.
//!
//! The format is NumPy's `numpy.lib.format`, versions 1 to 3. Arrays of Python objects are pickled programs
//! and are not read.

use std::path::Path;
use std::sync::Arc;

use super::archive::Members;
use super::array::{Array, Element, MAXIMUM_BYTES, Numbers, Region, Text, bytes_of, gather};
use crate::error::{Error, Result};
use crate::files::open_regular;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The longest header that is read.
const MAXIMUM_HEADER: u64 = 1 << 20;
/// Bytes of text that are read at a time.
const BLOCK: usize = 1 << 20;

/// The array of a `.npy` file.
pub(super) fn array(path: &Path) -> Result<Array> {
    let file = open_regular(path, u64::MAX)?.into_inner();
    let length = file
        .metadata()
        .map_err(|error| Error::io(path, "read", error))?
        .len();
    let region = Region::file(Arc::new(file), 0, length);
    decode(&region).map_err(|reason| Error::data(path, reason))
}

/// The arrays of a `.npz` file by name.
pub(super) struct Npz {
    members: Members,
}

impl Npz {
    /// Opens the file and reads its directory.
    pub fn open(path: &Path) -> Result<Self> {
        let members = Members::open(path, "`.npz` file")?;
        Ok(Npz { members })
    }

    /// Names of the arrays.
    pub fn names(&self) -> Vec<String> {
        let names = self.members.names();
        let names = names.iter().filter_map(|name| name.strip_suffix(".npy"));
        names.map(str::to_owned).collect()
    }

    /// The array of that name, which is one of [`Npz::names`].
    pub fn array(&mut self, path: &Path, name: &str) -> Result<Array> {
        let region = self.members.region(&format!("{name}.npy"))?;
        decode(&region).map_err(|reason| Error::data(path, format!("array `{name}` {reason}")))
    }
}

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Reads an array. An error is a clause.
fn decode(region: &Region) -> Result<Array, String> {
    let mut start = [0; 12];
    let long = region.len() >= 12;
    let start = &mut start[..if long { 12 } else { 10 }];
    let cut = |_| "is cut short: no NumPy header".to_owned();
    region.read(0, start).map_err(cut)?;
    let Some(rest) = start.strip_prefix(MAGIC) else {
        return Err("is no NumPy array: it does not begin with `\\x93NUMPY`".to_owned());
    };
    let (first, length) = match (rest[0], &rest[2..]) {
        (1, [a, b, ..]) => (10, u64::from(u16::from_le_bytes([*a, *b]))),
        (2 | 3, [a, b, c, d]) => (12, u64::from(u32::from_le_bytes([*a, *b, *c, *d]))),
        (version, _) => {
            return Err(format!(
                "has version {version} of the format; 1 to 3 are read"
            ));
        }
    };
    if length > MAXIMUM_HEADER {
        return Err(format!(
            "has a header of {length} bytes, and at most {MAXIMUM_HEADER} are read"
        ));
    }
    let header = region.part(first, length);
    let header = header.and_then(|header| header.to_vec(MAXIMUM_HEADER).ok());
    let header = header.ok_or("is cut short: its header does not end")?;
    let header = Header::read(&header).ok_or_else(|| {
        let header = String::from_utf8_lossy(&header[..header.len().min(80)]).into_owned();
        format!("has a header that is not NumPy's: `{}`", header.trim_end())
    })?;
    let first = first + length;
    let rest = region.part(first, region.len() - first);
    header.decode(rest.ok_or("is cut short")?)
}

impl Header {
    fn decode(self, region: Region) -> Result<Array, String> {
        let Header {
            descr,
            fortran_order,
            shape,
        } = self;
        let (order, kind, size) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|' | b'='), kind, size @ ..] => {
                let size = std::str::from_utf8(size)
                    .ok()
                    .and_then(|size| size.parse::<usize>().ok());
                (*order, *kind, size)
            }
            _ => (b'|', b'V', None),
        };
        let big_endian = order == b'>';
        let element = match (kind, size) {
            (b'f', Some(2)) => Element::F16,
            (b'f', Some(4)) => Element::F32,
            (b'f', Some(8)) => Element::F64,
            (b'i', Some(1)) => Element::I8,
            (b'i', Some(2)) => Element::I16,
            (b'i', Some(4)) => Element::I32,
            (b'i', Some(8)) => Element::I64,
            (b'u', Some(1)) => Element::U8,
            (b'u', Some(2)) => Element::U16,
            (b'u', Some(4)) => Element::U32,
            (b'u', Some(8)) => Element::U64,
            (b'b', Some(1)) => Element::Bool,
            (b'U' | b'S', Some(length)) => {
                let wide = kind == b'U';
                let size = length.checked_mul(if wide { 4 } else { 1 });
                let size = size.ok_or("holds text that is too long")?;
                check_length(&region, &shape, size)?;
                return text(&region, &shape, size, wide.then_some(big_endian)).map(Array::Text);
            }
            (b'O', _) => {
                let objects = "holds Python objects, which are programs and not read; save labels with \
                               `np.asarray(labels, dtype=str)`";
                return Err(objects.to_owned());
            }
            _ => {
                return Err(format!(
                    "holds `{descr}`; numbers of 8 to 64 bits and text are read"
                ));
            }
        };
        check_length(&region, &shape, element.bytes())?;
        let columns_first = fortran_order && shape.iter().filter(|&&size| size > 1).count() > 1;
        let region = if columns_first {
            let bytes = region.to_vec(MAXIMUM_BYTES).map_err(|error| {
                format!(
                    "is in Fortran's order and cannot be held in memory ({error}); save it with \
                         `np.ascontiguousarray`"
                )
            })?;
            let strides: Vec<usize> = (0..shape.len())
                .map(|axis| shape[..axis].iter().product())
                .collect();
            let rows = gather(&bytes, element.bytes(), &shape, &strides, 0);
            Region::memory(rows.ok_or("is too large to be reordered")?)
        } else {
            region
        };
        let numbers = Numbers::new(shape, element, region).ok_or("is cut short")?;
        Ok(Array::Numbers(numbers.big_endian(big_endian)))
    }

    /// Reads the Python literal of a header: a dictionary of three keys.
    fn read(text: &[u8]) -> Option<Self> {
        let mut literal = Literal {
            rest: std::str::from_utf8(text).ok()?,
        };
        literal.take("{")?;
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        while literal.take("}").is_none() {
            let key = literal.string()?;
            literal.take(":")?;
            let fresh = match key {
                "descr" => descr.replace(literal.string()?.to_owned()).is_none(),
                "fortran_order" => fortran_order.replace(literal.boolean()?).is_none(),
                "shape" => shape.replace(literal.sizes()?).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
            if literal.take(",").is_none() {
                literal.take("}")?;
                break;
            }
        }
        Some(Header {
            descr: descr?,
            fortran_order: fortran_order?,
            shape: shape?,
        })
    }
}

/// What is left of a Python literal.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn take(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.take("'").is_some() {
            "'"
        } else {
            self.take("\"").map(|()| "\"")?
        };
        let (string, rest) = self.rest.split_once(quote)?;
        self.rest = rest;
        (!string.contains('\\')).then_some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.take("True") {
            Some(()) => Some(true),
            None => self.take("False").map(|()| false),
        }
    }

    fn sizes(&mut self) -> Option<Vec<usize>> {
        /// NumPy's own bound.
        const MOST_AXES: usize = 64;
        self.take("(")?;
        let mut sizes = Vec::new();
        while self.take(")").is_none() {
            self.rest = self.rest.trim_start();
            let end = self.rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, rest) = self.rest.split_at(end);
            self.rest = rest;
            sizes.push(digits.parse().ok()?);
            if sizes.len() > MOST_AXES {
                return None;
            }
            if self.take(",").is_none() {
                self.take(")")?;
                break;
            }
        }
        Some(sizes)
    }
}

/// Checks that there are as many bytes as the shape needs.
fn check_length(region: &Region, shape: &[usize], size: usize) -> Result<(), String> {
    let found = region.len();
    match bytes_of(shape, size) {
        Some(needed) if needed == found => Ok(()),
        Some(needed) if needed > found => Err(format!(
            "is cut short: the shape {shape:?} needs {needed} bytes, and there are {found}"
        )),
        _ => Err(format!(
            "has {found} bytes, which are not those of the shape {shape:?}"
        )),
    }
}

/// Text of `size` bytes each: UCS-4 of that byte order, or UTF-8; zeros at the end are padding.
fn text(
    region: &Region,
    shape: &[usize],
    size: usize,
    big_endian: Option<bool>,
) -> Result<Text, String> {
    let mut text = Text::default();
    let rows: usize = shape.iter().product();
    if size == 0 {
        if rows > 0 {
            return Err("holds empty text alone".to_owned());
        }
        return Ok(text);
    }
    let at_a_time = (BLOCK / size).max(1);
    let mut block = Vec::new();
    for first in (0..rows).step_by(at_a_time) {
        let count = at_a_time.min(rows - first);
        if block.try_reserve(count * size).is_err() {
            return Err(format!(
                "holds text of {size} bytes a row, for which there is no memory"
            ));
        }
        block.resize(count * size, 0);
        let read = region.read((first * size) as u64, &mut block);
        read.map_err(|error| format!("cannot be read: {error}"))?;
        for (row, bytes) in (first..).zip(block.chunks_exact(size)) {
            let decoded = match big_endian {
                Some(big_endian) => wide(bytes, big_endian),
                None => String::from_utf8(bytes.to_vec()).ok(),
            };
            let decoded = decoded.ok_or_else(|| format!("row {row} is not text"))?;
            text.push(decoded.trim_end_matches('\0'));
        }
    }
    Ok(text)
}

fn wide(bytes: &[u8], big_endian: bool) -> Option<String> {
    let letters = bytes.as_chunks().0.iter().map(|bytes| {
        let code = if big_endian {
            u32::from_be_bytes(*bytes)
        } else {
            u32::from_le_bytes(*bytes)
        };
        char::from_u32(code)
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Option<Header> {
        Header::read(text.as_bytes())
    }

    /// Headers as NumPy writes them, and what is none.
    #[test]
    fn headers_are_python_literals() {
        let read = header("{'descr': '<f2', 'fortran_order': False, 'shape': (13083, 384), }   \n");
        let expected = Header {
            descr: "<f2".to_owned(),
            fortran_order: false,
            shape: vec![13083, 384],
        };
        assert_eq!(read, Some(expected));
        let flat = header("{\"shape\":(7,),\"descr\":'|S3','fortran_order':True}");
        assert_eq!(
            flat.map(|flat| (flat.shape, flat.fortran_order)),
            Some((vec![7], true))
        );
        let scalar = header("{'descr': '<i8', 'fortran_order': False, 'shape': ()}");
        assert_eq!(scalar.map(|scalar| scalar.shape), Some(vec![]));
        for bad in [
            "",
            "{",
            "{'descr': '<f2'}",
            "{'descr': '<f2', 'fortran_order': False, 'shape': (3, -1)}",
            "{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f2', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '<f2', 'fortran_order': False, 'shape': (3,), 'more': 'x'}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
        ] {
            assert_eq!(header(bad), None, "{bad}");
        }
    }
}
