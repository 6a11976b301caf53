//! PyTorch's `.pt`: tensors that `torch.save` wrote, alone or in dictionaries, since version 1.6.
//!
//! Such a file is a zip archive of a pickle, which is a program for a stack machine, and of the numbers that it
//! names. Of that machine, only what builds numbers, text, lists, dictionaries and tensors is there: nothing
//! is imported and nothing is called. A pickle that asks for anything else is refused, by the name of what it
//! asks for.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::archive::Members;
use super::array::{Array, Element, MAXIMUM_BYTES, Numbers, Region, Text, gather};
use crate::error::{Error, Result};

/// The longest pickle that is read.
const MAXIMUM_PICKLE: u64 = 1 << 26;
/// The most values of a pickle.
const MAXIMUM_VALUES: usize = 1 << 21;
/// How deep dictionaries are searched, how many values in all, and how long a name may be.
const MAXIMUM_DEPTH: usize = 16;
const MAXIMUM_STEPS: usize = 1 << 20;
const MAXIMUM_NAME: usize = 1 << 10;
/// The most axes of a tensor.
const MAXIMUM_AXES: usize = 64;

/// An open file.
pub(super) struct Pytorch {
    path: PathBuf,
    members: Members,
    /// The folder of all members, with its `/`.
    folder: String,
    found: BTreeMap<String, Found>,
}

/// An array of the file.
#[derive(Clone, Debug)]
enum Found {
    Tensor(Tensor),
    Text(Text),
    Integers(Vec<i64>),
}

/// A view of a storage.
#[derive(Clone, Debug)]
struct Tensor {
    element: Element,
    storage: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Pytorch {
    /// Opens the file and reads what it says of its tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let fault = |reason: String| Error::data(path, reason);
        let kind =
            "PyTorch file of version 1.6 or newer (older ones: save them again with a new PyTorch)";
        let mut members = Members::open(path, kind)?;
        let names = members.names();
        let pickle = names.iter().find(|name| name.ends_with("data.pkl"));
        let Some(pickle) = pickle.cloned() else {
            return Err(fault(
                "is no PyTorch file: there is no `data.pkl` in it".to_owned(),
            ));
        };
        let folder = pickle
            .strip_suffix("data.pkl")
            .unwrap_or_default()
            .to_owned();
        let order = format!("{folder}byteorder");
        if names.contains(&order) {
            let order = members.region(&order)?.to_vec(16).unwrap_or_default();
            if order != b"little" {
                let found = String::from_utf8_lossy(&order).into_owned();
                return Err(fault(format!(
                    "has numbers in the byte order `{found}`; `little` is read"
                )));
            }
        }
        let pickle = members.region(&pickle)?.to_vec(MAXIMUM_PICKLE);
        let pickle = pickle
            .map_err(|_| fault(format!("has a pickle of more than {MAXIMUM_PICKLE} bytes")))?;
        let mut machine = Machine::default();
        let root = machine
            .run(&pickle)
            .map_err(|reason| fault(format!("its pickle {reason}")))?;
        let found = machine
            .arrays(root)
            .map_err(|reason| fault(format!("its pickle {reason}")))?;
        Ok(Pytorch {
            path: path.to_owned(),
            members,
            folder,
            found,
        })
    }

    /// Names of the arrays: keys, with a point between those of nested dictionaries; empty for one that
    /// lies in no dictionary.
    pub fn names(&self) -> Vec<String> {
        self.found.keys().cloned().collect()
    }

    /// The array of that name, which is one of [`Pytorch::names`].
    pub fn array(&mut self, name: &str) -> Result<Array> {
        let tensor = match self.found.get(name) {
            Some(Found::Text(text)) => return Ok(Array::Text(text.clone())),
            Some(Found::Integers(integers)) => {
                let bytes = integers
                    .iter()
                    .flat_map(|integer| integer.to_le_bytes())
                    .collect();
                let region = Region::memory(bytes);
                let numbers = Numbers::new(vec![integers.len()], Element::I64, region);
                return numbers
                    .map(Array::Numbers)
                    .ok_or_else(|| self.fault(name, "is odd"));
            }
            Some(Found::Tensor(tensor)) => tensor.clone(),
            None => return Err(self.fault(name, "is not there")),
        };
        let storage = self
            .members
            .region(&format!("{}data/{}", self.folder, tensor.storage))?;
        let size = tensor.element.bytes();
        let outside = "lies beyond the end of its storage, or repeats numbers of it";
        let region = if tensor.is_contiguous() {
            let first = tensor.offset.checked_mul(size);
            let length = super::array::bytes_of(&tensor.shape, size);
            let part = first.zip(length);
            part.and_then(|(first, length)| storage.part(first as u64, length))
        } else {
            let bytes = storage.to_vec(MAXIMUM_BYTES);
            let bytes = bytes.map_err(|error| Error::io(&self.path, "read", error))?;
            let Tensor {
                shape,
                strides,
                offset,
                ..
            } = &tensor;
            gather(&bytes, size, shape, strides, *offset).map(Region::memory)
        };
        let region = region.ok_or_else(|| self.fault(name, outside))?;
        let numbers = Numbers::new(tensor.shape, tensor.element, region);
        numbers
            .map(Array::Numbers)
            .ok_or_else(|| self.fault(name, outside))
    }

    fn fault(&self, name: &str, reason: &str) -> Error {
        Error::data(&self.path, format!("tensor `{name}` {reason}"))
    }
}

impl Tensor {
    fn is_contiguous(&self) -> bool {
        let mut expected = Some(1usize);
        let axes = self.shape.iter().zip(&self.strides).rev();
        for (&size, &stride) in axes {
            if size != 1 && Some(stride) != expected {
                return false;
            }
            expected = expected.and_then(|expected| expected.checked_mul(size));
        }
        true
    }
}

/// A value of a pickle; those inside it by their places in the machine.
#[derive(Clone, Debug)]
enum Value {
    None,
    Boolean(bool),
    Integer(i64),
    Float,
    Text(String),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dictionary(Vec<(usize, usize)>),
    Class(Class),
    Storage(Element, String),
    Tensor(Tensor),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Element),
}

impl Class {
    fn named(module: &str, name: &str) -> Option<Self> {
        let element = match name {
            "HalfStorage" => Element::F16,
            "BFloat16Storage" => Element::BF16,
            "FloatStorage" => Element::F32,
            "DoubleStorage" => Element::F64,
            "CharStorage" => Element::I8,
            "ShortStorage" => Element::I16,
            "IntStorage" => Element::I32,
            "LongStorage" => Element::I64,
            "ByteStorage" => Element::U8,
            "BoolStorage" => Element::Bool,
            _ => {
                return match (module, name) {
                    ("collections", "OrderedDict") => Some(Class::OrderedDict),
                    ("torch._utils", "_rebuild_tensor_v2") => Some(Class::RebuildTensor),
                    ("torch._utils", "_rebuild_parameter") => Some(Class::RebuildParameter),
                    ("torch", "Size") => Some(Class::Size),
                    _ => None,
                };
            }
        };
        (module == "torch").then_some(Class::Storage(element))
    }
}

/// The stack machine of pickles.
#[derive(Default)]
struct Machine {
    values: Vec<Value>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u32, usize>,
}

/// The rest of a pickle.
struct Program<'a>(&'a [u8]);

const CUT: &str = "is cut short";
const ODD: &str = "is damaged: a value is missing, or of another kind than is needed";

impl<'a> Program<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn size(&mut self) -> Result<usize, String> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn text(&mut self, count: usize) -> Result<String, String> {
        let bytes = self.bytes(count)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "holds text that is not UTF-8".to_owned())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.0.iter().position(|&byte| byte == b'\n').ok_or(CUT)?;
        let line = self.bytes(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| ODD.to_owned())
    }
}

impl Machine {
    /// Runs a pickle to its end; an error is a clause.
    fn run(&mut self, pickle: &[u8]) -> Result<usize, String> {
        let mut program = Program(pickle);
        loop {
            let code = program.byte()?;
            if code == b'.' {
                return self.pop();
            }
            if self.values.len() > MAXIMUM_VALUES || self.stack.len() > MAXIMUM_VALUES {
                return Err(format!("makes more than {MAXIMUM_VALUES} values"));
            }
            let known = self.literal(code, &mut program)? || self.step(code, &mut program)?;
            if !known {
                return Err(format!(
                    "uses the operation {code:#04x}, which no tensor needs"
                ));
            }
        }
    }

    /// Operations that push a value that the program holds.
    fn literal(&mut self, code: u8, program: &mut Program<'_>) -> Result<bool, String> {
        let value = match code {
            b'N' => Value::None,
            0x88 => Value::Boolean(true),
            0x89 => Value::Boolean(false),
            b'K' => Value::Integer(program.byte()?.into()),
            b'M' => Value::Integer(u16::from_le_bytes(program.array()?).into()),
            b'J' => Value::Integer(i32::from_le_bytes(program.array()?).into()),
            0x8a => {
                let length = program.byte()? as usize;
                let bytes = program.bytes(length)?;
                Value::Integer(long(bytes).ok_or("holds an integer of more than 64 bits")?)
            }
            b'G' => {
                program.bytes(8)?;
                Value::Float
            }
            b'X' => {
                let length = program.size()?;
                Value::Text(program.text(length)?)
            }
            0x8c => {
                let length = program.byte()? as usize;
                Value::Text(program.text(length)?)
            }
            b'}' => Value::Dictionary(Vec::new()),
            b']' => Value::List(Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            b'c' => {
                let (module, name) = (program.line()?, program.line()?);
                Value::Class(class(module, name)?)
            }
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    /// Operations on what is on the stack.
    fn step(&mut self, code: u8, program: &mut Program<'_>) -> Result<bool, String> {
        match code {
            // The version of the protocol, and the length of a frame.
            0x80 => drop(program.byte()?),
            0x95 => drop(program.bytes(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'q' => {
                let place = program.byte()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = program.size()?;
                self.remember(place as u32)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let place = program.byte()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = program.size()?;
                self.recall(place as u32)?;
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or(ODD)?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(&items)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (self.at(name), self.at(module))
                else {
                    return Err(ODD.to_owned());
                };
                let class = class(module, name)?;
                self.push(Value::Class(class));
            }
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            // Attributes of an ordered dictionary say nothing of tensors.
            b'b' => drop(self.pop()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<usize, String> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        let top = (self.stack.len() > bottom)
            .then(|| self.stack.pop())
            .flatten();
        top.ok_or_else(|| ODD.to_owned())
    }

    fn at(&self, place: usize) -> &Value {
        &self.values[place]
    }

    fn since_mark(&mut self) -> Result<Vec<usize>, String> {
        let mark = self.marks.pop().ok_or(ODD)?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or(ODD)?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let value = *self.memo.get(&place).ok_or(ODD)?;
        self.stack.push(value);
        Ok(())
    }

    fn append(&mut self, items: Vec<usize>) -> Result<(), String> {
        let list = *self.stack.last().ok_or(ODD)?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            _ => return Err(ODD.to_owned()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[usize]) -> Result<(), String> {
        let dictionary = *self.stack.last().ok_or(ODD)?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[dictionary] {
            Value::Dictionary(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(ODD.to_owned()),
        }
    }

    /// The items of a tuple; few, since they are copied.
    fn tuple(&self, place: usize) -> Result<&[usize], String> {
        match self.at(place) {
            Value::Tuple(items) if items.len() <= MAXIMUM_AXES => Ok(items),
            _ => Err(ODD.to_owned()),
        }
    }

    fn sizes(&self, place: usize) -> Result<Vec<usize>, String> {
        let sizes = self.tuple(place)?.iter().map(|&size| self.size(size));
        sizes.collect()
    }

    fn size(&self, place: usize) -> Result<usize, String> {
        match self.at(place) {
            Value::Integer(size) => usize::try_from(*size).map_err(|_| ODD.to_owned()),
            _ => Err(ODD.to_owned()),
        }
    }

    /// The numbers that a tuple `("storage", class, member, device, count)` names.
    fn storage(&mut self) -> Result<(), String> {
        let place = self.pop()?;
        let storage = match *self.tuple(place)? {
            [_, class, member, _, _] => match (self.at(class), self.at(member)) {
                (Value::Class(Class::Storage(element)), Value::Text(member))
                    if member.len() <= MAXIMUM_NAME =>
                {
                    Value::Storage(*element, member.clone())
                }
                _ => return Err(ODD.to_owned()),
            },
            _ => return Err(ODD.to_owned()),
        };
        self.push(storage);
        Ok(())
    }

    /// What a class makes of its arguments.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let arguments = self.tuple(arguments)?.to_vec();
        let Value::Class(class) = *self.at(class) else {
            return Err(ODD.to_owned());
        };
        let value = match (class, &arguments[..]) {
            (Class::OrderedDict, []) => Value::Dictionary(Vec::new()),
            (Class::Size, &[sizes]) => Value::Tuple(self.tuple(sizes)?.to_vec()),
            (Class::RebuildParameter, &[tensor, ..]) => match self.at(tensor) {
                Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                _ => return Err(ODD.to_owned()),
            },
            (Class::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let Value::Storage(element, member) = self.at(storage).clone() else {
                    return Err(ODD.to_owned());
                };
                let tensor = Tensor {
                    element,
                    storage: member,
                    offset: self.size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err(ODD.to_owned());
                }
                Value::Tensor(tensor)
            }
            _ => return Err(ODD.to_owned()),
        };
        self.push(value);
        Ok(())
    }

    /// The arrays in the value at `place`, by the keys that lead to them.
    fn arrays(&self, place: usize) -> Result<BTreeMap<String, Found>, String> {
        let (mut found, mut steps) = (BTreeMap::new(), MAXIMUM_STEPS);
        self.collect(place, "", MAXIMUM_DEPTH, &mut steps, &mut found)?;
        Ok(found)
    }

    fn collect(
        &self,
        place: usize,
        name: &str,
        depth: usize,
        steps: &mut usize,
        found: &mut BTreeMap<String, Found>,
    ) -> Result<(), String> {
        *steps = steps.saturating_sub(1);
        if depth == 0 || *steps == 0 || name.len() > MAXIMUM_NAME {
            return Err(format!(
                "nests dictionaries more than {MAXIMUM_DEPTH} deep, holds more than {MAXIMUM_STEPS} values \
                 or has keys of more than {MAXIMUM_NAME} letters"
            ));
        }
        match self.at(place) {
            Value::Tensor(tensor) => {
                found.insert(name.to_owned(), Found::Tensor(tensor.clone()));
            }
            Value::List(items) | Value::Tuple(items) => {
                if let Some(list) = self.list(items) {
                    found.insert(name.to_owned(), list);
                }
            }
            Value::Dictionary(entries) => {
                for &(key, value) in entries {
                    let key = match self.at(key) {
                        Value::Text(key) => key.clone(),
                        Value::Integer(key) => key.to_string(),
                        _ => continue,
                    };
                    let key = if name.is_empty() {
                        key
                    } else {
                        format!("{name}.{key}")
                    };
                    self.collect(value, &key, depth - 1, steps, found)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A list of text, or of integers.
    fn list(&self, items: &[usize]) -> Option<Found> {
        let text = items.iter().map(|&item| match self.at(item) {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let integers = items.iter().map(|&item| match self.at(item) {
            Value::Integer(integer) => Some(*integer),
            Value::Boolean(boolean) => Some(i64::from(*boolean)),
            _ => None,
        });
        if items.is_empty() {
            return None;
        }
        match text.collect::<Option<Text>>() {
            Some(text) => Some(Found::Text(text)),
            None => integers.collect::<Option<Vec<i64>>>().map(Found::Integers),
        }
    }
}

/// The class of that name; an error names what is not there.
fn class(module: &str, name: &str) -> Result<Class, String> {
    Class::named(module, name).ok_or_else(|| {
        format!(
            "asks for `{module}.{name}`, and nothing but tensors, text, lists and dictionaries is read; \
             save those alone"
        )
    })
}

/// A signed little-endian integer of up to 8 bytes.
fn long(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pickle: &[u8]) -> Result<BTreeMap<String, Found>, String> {
        let mut machine = Machine::default();
        let root = machine.run(pickle)?;
        machine.arrays(root)
    }

    /// `{"a": ["x", "y"], "n": {"b": [1, -2]}}`, as `pickle.dumps(…, protocol=2)` writes it.
    #[test]
    fn lists_in_nested_dictionaries() {
        let pickle = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(X\x01\x00\x00\x00xq\x03X\x01\x00\x00\
            \x00yq\x04eX\x01\x00\x00\x00nq\x05}q\x06X\x01\x00\x00\x00bq\x07]q\x08(K\x01J\xfe\xff\xff\xff\
            esu.";
        let found = run(pickle).expect("a pickle");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "n.b"]);
        assert!(matches!(&found["a"], Found::Text(text) if text.distinct == ["x", "y"]));
        assert!(matches!(&found["n.b"], Found::Integers(list) if list == &[1, -2]));
        for length in 0..pickle.len() {
            assert!(run(&pickle[..length]).is_err(), "{length}");
        }
    }

    /// `os.system("…")`, and the same by the opcodes of protocol 4: refused by name, before any call.
    #[test]
    fn nothing_is_imported() {
        for pickle in [
            &b"cos\nsystem\n(X\x04\x00\x00\x00exitt\x52."[..],
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04exit\x85R.",
        ] {
            let message = run(pickle).expect_err("not a tensor");
            assert!(message.contains("`os.system`"), "{message}");
        }
        assert!(run(b"ios\nsystem\n.").expect_err("INST").contains("0x69"));
    }

    /// A list in itself, and dictionaries that hold each other twice, end.
    #[test]
    fn circles_and_doublings_end() {
        assert!(
            run(b"]q\x00h\x00a.")
                .expect("a list without arrays")
                .is_empty()
        );
        let circle = run(b"}q\x00X\x01\x00\x00\x00ah\x00s.").expect_err("endless");
        assert!(circle.contains("deep"), "{circle}");
        let mut doubling = b"}q\x00".to_vec();
        for level in 0..14u8 {
            let inside = [b"}q", &[level + 1][..]].concat();
            let twice = [
                &b"(X\x01\x00\x00\x00ah"[..],
                &[level],
                b"X\x01\x00\x00\x00bh",
                &[level],
                b"u",
            ];
            doubling.extend([&inside[..], &twice.concat()].concat());
        }
        doubling.push(b'.');
        assert!(run(&doubling).expect("2^14 empty dictionaries").is_empty());
    }

    #[test]
    fn integers_of_any_length() {
        assert_eq!(long(&[]), Some(0));
        assert_eq!(long(&[0xff]), Some(-1));
        assert_eq!(long(&[0xff, 0x00]), Some(255));
        assert_eq!(long(&[0; 9]), None);
    }

    #[test]
    fn contiguous_is_row_major() {
        let tensor = |shape: &[usize], strides: &[usize]| Tensor {
            element: Element::F32,
            storage: "0".to_owned(),
            offset: 0,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        assert!(tensor(&[2, 3], &[3, 1]).is_contiguous());
        assert!(tensor(&[2, 1], &[1, 7]).is_contiguous());
        assert!(!tensor(&[3, 2], &[1, 3]).is_contiguous());
    }
}
