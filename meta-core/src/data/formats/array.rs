//! Arrays as files hold them: numbers of any width, in memory or left in the file, and text.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

/// The most bytes of an array that is held in memory.
pub const MAXIMUM_BYTES: u64 = 1 << 32;
/// Numbers that are read at a time.
const BLOCK: usize = 1 << 12;

/// What a number is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754, 16 bits.
    F16,
    /// The upper half of 32 bits of IEEE 754.
    BF16,
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 64 bits.
    F64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// One byte, 0 or 1.
    Bool,
}

impl Element {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Element::I8 | Element::U8 | Element::Bool => 1,
            Element::F16 | Element::BF16 | Element::I16 | Element::U16 => 2,
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F64 | Element::I64 | Element::U64 => 8,
        }
    }

    /// Whether it has no fraction.
    pub fn is_integer(self) -> bool {
        let fractions = [Element::F16, Element::BF16, Element::F32, Element::F64];
        !fractions.contains(&self)
    }
}

/// Bytes in memory, or a part of a file that is left there.
#[derive(Clone, Debug)]
pub struct Region {
    held: Held,
    first: u64,
    length: u64,
}

#[derive(Clone, Debug)]
enum Held {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>),
}

impl Region {
    /// These bytes.
    pub fn memory(bytes: Vec<u8>) -> Self {
        Region {
            first: 0,
            length: bytes.len() as u64,
            held: Held::Memory(Arc::new(bytes)),
        }
    }

    /// `length` bytes of a file, from byte `first` on.
    pub fn file(file: Arc<File>, first: u64, length: u64) -> Self {
        Region {
            held: Held::File(file),
            first,
            length,
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// `length` of the bytes, from byte `first` on; none where there are fewer.
    pub fn part(&self, first: u64, length: u64) -> Option<Region> {
        let end = first.checked_add(length)?;
        (end <= self.length).then(|| Region {
            held: self.held.clone(),
            first: self.first + first,
            length,
        })
    }

    /// Fills `place` from byte `first` on, whoever else reads there.
    ///
    /// # Errors
    /// Those of the system, and `UnexpectedEof` where there are fewer bytes.
    pub fn read(&self, first: u64, place: &mut [u8]) -> io::Result<()> {
        if self.part(first, place.len() as u64).is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = self.first + first;
        match &self.held {
            Held::Memory(bytes) => {
                let first = first as usize;
                place.copy_from_slice(&bytes[first..first + place.len()]);
                Ok(())
            }
            Held::File(file) => read_at(file, first, place),
        }
    }

    /// All bytes, where they are at most `limit`.
    ///
    /// # Errors
    /// As [`Region::read`], and `OutOfMemory`.
    pub fn to_vec(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.length > limit || bytes.try_reserve_exact(self.length as usize).is_err() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        bytes.resize(self.length as usize, 0);
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// An array of numbers, row-major.
///
/// Numbers that are left in the file are read from their place when they are asked for, any of them
/// without those before, and stay in the memory that the system keeps of files.
#[derive(Clone, Debug)]
pub struct Numbers {
    shape: Vec<usize>,
    element: Element,
    big_endian: bool,
    region: Region,
}

impl Numbers {
    /// Little-endian numbers; none where the bytes are not as many as the shape needs.
    pub fn new(shape: Vec<usize>, element: Element, region: Region) -> Option<Self> {
        let fits = bytes_of(&shape, element.bytes()) == Some(region.len());
        fits.then_some(Numbers {
            shape,
            element,
            big_endian: false,
            region,
        })
    }

    /// The same numbers, read with the most significant byte first.
    pub fn big_endian(self, big_endian: bool) -> Self {
        Numbers { big_endian, ..self }
    }

    /// Numbers along each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What a number is.
    pub fn element(&self) -> Element {
        self.element
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the numbers from position `first` on, as many as `place` has.
    ///
    /// # Errors
    /// Those of the system, and `UnexpectedEof` for numbers beyond the last.
    pub fn read(&self, first: usize, place: &mut [f32]) -> io::Result<()> {
        self.blocks(first, place.len(), |bytes, from| {
            let place = &mut place[from..from + bytes.len() / self.element.bytes()];
            match (self.element, self.big_endian) {
                (Element::F16, false) => half_floats::<f16>(bytes, place),
                (Element::BF16, false) => half_floats::<bf16>(bytes, place),
                (Element::F32, false) => {
                    for (place, bytes) in place.iter_mut().zip(bytes.as_chunks().0) {
                        *place = f32::from_le_bytes(*bytes);
                    }
                }
                _ => {
                    let mut places = place.iter_mut();
                    self.decode(bytes, |number| {
                        if let Some(place) = places.next() {
                            *place = number.to_f64() as f32;
                        }
                    });
                }
            }
        })
    }

    /// [`Numbers::read`] with integers as they are.
    ///
    /// # Errors
    /// As there.
    pub fn read_exactly(&self, first: usize, count: usize) -> io::Result<Vec<Number>> {
        let mut numbers = Vec::with_capacity(count.min(BLOCK));
        self.blocks(first, count, |bytes, _| {
            self.decode(bytes, |number| numbers.push(number));
        })?;
        Ok(numbers)
    }

    /// Hands on the bytes of `count` numbers from position `first`, in blocks, each with the number of
    /// those before it.
    fn blocks(
        &self,
        first: usize,
        count: usize,
        mut take: impl FnMut(&[u8], usize),
    ) -> io::Result<()> {
        if first.checked_add(count).is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = self.element.bytes();
        if let Held::Memory(bytes) = &self.region.held {
            let start = self.region.first as usize + first * size;
            take(&bytes[start..start + count * size], 0);
            return Ok(());
        }
        let mut block = vec![0; count.min(BLOCK) * size];
        for done in (0..count).step_by(BLOCK) {
            let bytes = &mut block[..(count - done).min(BLOCK) * size];
            self.region.read(((first + done) * size) as u64, bytes)?;
            take(bytes, done);
        }
        Ok(())
    }

    fn decode(&self, bytes: &[u8], mut take: impl FnMut(Number)) {
        macro_rules! numbers {
            ($type:ty, $kind:ident) => {
                for bytes in bytes.as_chunks::<{ size_of::<$type>() }>().0 {
                    let number = if self.big_endian {
                        <$type>::from_be_bytes(*bytes)
                    } else {
                        <$type>::from_le_bytes(*bytes)
                    };
                    take(Number::$kind(number.into()));
                }
            };
        }
        match self.element {
            Element::F16 => numbers!(f16, Fraction),
            Element::BF16 => numbers!(bf16, Fraction),
            Element::F32 => numbers!(f32, Fraction),
            Element::F64 => numbers!(f64, Fraction),
            Element::I8 => numbers!(i8, Integer),
            Element::I16 => numbers!(i16, Integer),
            Element::I32 => numbers!(i32, Integer),
            Element::I64 => numbers!(i64, Integer),
            Element::U8 | Element::Bool => numbers!(u8, Integer),
            Element::U16 => numbers!(u16, Integer),
            Element::U32 => numbers!(u32, Integer),
            Element::U64 => numbers!(u64, Integer),
        }
    }
}

/// A number as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of an integer type.
    Integer(i128),
    /// Of a type with fractions.
    Fraction(f64),
}

impl Number {
    /// The nearest number of 64 bits.
    pub fn to_f64(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Fraction(fraction) => fraction,
        }
    }
}

/// Bytes of numbers of `size` bytes in an array of this shape; none beyond 64 bits.
pub fn bytes_of(shape: &[usize], size: usize) -> Option<u64> {
    let sizes = shape.iter().chain([&size]);
    let mut sizes = sizes.map(|&size| size as u64);
    sizes.try_fold(1, u64::checked_mul)
}

/// Half-precision numbers, converted a block at a time, which processors have instructions for.
fn half_floats<H>(bytes: &[u8], place: &mut [f32])
where
    [u16]: HalfBitsSliceExt,
    [H]: HalfFloatSliceExt,
    H: HalfFloat,
{
    let mut bits = [0; BLOCK];
    for (bytes, place) in bytes.chunks(2 * BLOCK).zip(place.chunks_mut(BLOCK)) {
        let bits = &mut bits[..place.len()];
        for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks().0) {
            *bits = u16::from_le_bytes(*bytes);
        }
        H::cast(bits).convert_to_f32_slice(place);
    }
}

/// The two formats of 16 bits.
trait HalfFloat: Sized {
    fn cast(bits: &[u16]) -> &[Self];
}

impl HalfFloat for f16 {
    fn cast(bits: &[u16]) -> &[Self] {
        bits.reinterpret_cast()
    }
}

impl HalfFloat for bf16 {
    fn cast(bits: &[u16]) -> &[Self] {
        bits.reinterpret_cast()
    }
}

/// Fills `place` from byte `offset` of the file on, whoever else reads it.
fn read_at(file: &File, offset: u64, place: &mut [u8]) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, place, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < place.len() {
            let at = offset + done as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut place[done..], at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                some => done += some,
            }
        }
        Ok(())
    }
}

/// The row-major bytes of an array whose neighbours along axis `i` are `strides[i]` numbers of `size` bytes
/// apart in `bytes`; none where one lies beyond the last, or where there are more numbers than `bytes` has: a
/// small file could ask for all memory by naming one number again and again.
pub(super) fn gather(
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    strides: &[usize],
    first: usize,
) -> Option<Vec<u8>> {
    let count = bytes_of(shape, size).filter(|&count| count <= bytes.len() as u64)?;
    let mut gathered = Vec::new();
    gathered.try_reserve_exact(count as usize).ok()?;
    if count == 0 {
        return Some(gathered);
    }
    let mut index = vec![0usize; shape.len()];
    loop {
        let offsets = index.iter().zip(strides).map(|(&i, &s)| i.checked_mul(s));
        let mut offsets = offsets.chain([Some(first)]);
        let offset = offsets.try_fold(0usize, |sum, offset| sum.checked_add(offset?))?;
        let start = offset.checked_mul(size)?;
        gathered.extend_from_slice(bytes.get(start..start.checked_add(size)?)?);
        let Some(axis) = (0..shape.len())
            .rev()
            .find(|&axis| index[axis] + 1 < shape[axis])
        else {
            return Some(gathered);
        };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

/// A list of text in which the same may come often: labels, names of splits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// What there is, each once, in the order of the first time.
    pub distinct: Vec<String>,
    /// For each row, which it is.
    pub rows: Vec<u32>,
    known: HashMap<String, u32>,
}

impl Text {
    /// Appends a row.
    pub fn push(&mut self, text: &str) {
        let next = self.distinct.len() as u32;
        let place = self.known.get(text).copied().unwrap_or_else(|| {
            self.known.insert(text.to_owned(), next);
            self.distinct.push(text.to_owned());
            next
        });
        self.rows.push(place);
    }

    /// Appends the rows of another list.
    pub fn append(&mut self, other: &Text) {
        for row in other.iter() {
            self.push(row);
        }
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.rows
            .iter()
            .map(|&row| self.distinct[row as usize].as_str())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Text {
    fn from_iter<I: IntoIterator<Item = S>>(rows: I) -> Self {
        let mut text = Text::default();
        rows.into_iter().for_each(|row| text.push(row.as_ref()));
        text
    }
}

/// An array of a file.
#[derive(Clone, Debug)]
pub enum Array {
    /// Numbers of any shape.
    Numbers(Numbers),
    /// Text, one after the other.
    Text(Text),
}

impl Array {
    /// The array as one name per row: text as it is, integers in decimal, whole numbers of other types
    /// likewise. An error is a clause.
    pub(super) fn into_names(self) -> Result<Text, String> {
        let numbers = match self {
            Array::Text(text) => return Ok(text),
            Array::Numbers(numbers) => numbers,
        };
        if !matches!(numbers.shape(), [_] | [_, 1]) {
            let shape = numbers.shape();
            return Err(format!(
                "has the shape {shape:?}, but one name per row is needed"
            ));
        }
        let mut text = Text::default();
        for first in (0..numbers.len()).step_by(BLOCK) {
            let count = BLOCK.min(numbers.len() - first);
            let block = numbers.read_exactly(first, count);
            let block = block.map_err(|error| format!("cannot be read: {error}"))?;
            for (row, number) in (first..).zip(block) {
                match number {
                    Number::Integer(integer) => text.push(&integer.to_string()),
                    Number::Fraction(whole) if whole.fract() == 0.0 => {
                        text.push(&format!("{whole:.0}"));
                    }
                    Number::Fraction(other) => {
                        return Err(format!(
                            "row {row} is {other}; names are text or whole numbers"
                        ));
                    }
                }
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(element: Element, bytes: &[u8], big_endian: bool) -> Vec<f32> {
        let count = bytes.len() / element.bytes();
        let numbers =
            Numbers::new(vec![count], element, Region::memory(bytes.to_vec())).expect("fits");
        let mut place = vec![0.0; count];
        numbers
            .big_endian(big_endian)
            .read(0, &mut place)
            .expect("in memory");
        place
    }

    /// The bit patterns of 1, −2 and the smallest number, from the standard's tables.
    #[test]
    fn numbers_of_every_width() {
        use Element::*;
        assert_eq!(
            read(F16, &[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00], false)[..2],
            [1.0, -2.0]
        );
        assert_eq!(read(F16, &[0x01, 0x00], false), [2.0f32.powi(-24)]);
        assert_eq!(read(F16, &[0x3c, 0x00], true), [1.0]);
        assert_eq!(read(BF16, &[0x80, 0x3f, 0x00, 0xc0], false), [1.0, -2.0]);
        assert_eq!(read(F32, &1.5f32.to_be_bytes(), true), [1.5]);
        assert_eq!(read(F64, &(-0.1f64).to_le_bytes(), false), [-0.1]);
        assert_eq!(read(I8, &[0xff, 0x80], false), [-1.0, -128.0]);
        assert_eq!(read(U8, &[0xff], false), [255.0]);
        assert_eq!(read(I16, &(-300i16).to_le_bytes(), false), [-300.0]);
        assert_eq!(read(U32, &u32::MAX.to_le_bytes(), false), [u32::MAX as f32]);
        assert_eq!(read(Bool, &[0, 1], false), [0.0, 1.0]);
    }

    #[test]
    fn integers_are_exact() {
        let bytes = u64::MAX.to_le_bytes().to_vec();
        let numbers = Numbers::new(vec![1], Element::U64, Region::memory(bytes)).expect("fits");
        let exact = numbers.read_exactly(0, 1).expect("in memory");
        assert_eq!(exact, [Number::Integer(u64::MAX.into())]);
        let names = Array::Numbers(numbers).into_names().expect("an integer");
        assert_eq!(names.distinct, ["18446744073709551615"]);
        let short = |shape| Numbers::new(shape, Element::U64, Region::memory(vec![0; 15]));
        assert!(short(vec![2]).is_none() && short(vec![usize::MAX, 2]).is_none());
    }

    /// Numbers left in a file are those in memory, over the edges of blocks too.
    #[test]
    fn numbers_in_a_file_are_those_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("numbers");
        let count = 2 * BLOCK + 7;
        let bytes: Vec<u8> = (0..count as u16)
            .flat_map(|n| (n % 0x7c00).to_le_bytes())
            .collect();
        std::fs::write(&path, [&[9; 5][..], &bytes].concat()).expect("written");
        let file = Arc::new(File::open(&path).expect("a file"));
        let numbers = |region| Numbers::new(vec![count], Element::F16, region).expect("fits");
        let there = numbers(Region::file(file, 5, 2 * count as u64));
        let here = numbers(Region::memory(bytes));
        for (first, length) in [(0, count), (1, 3), (BLOCK - 1, BLOCK + 2), (count, 0)] {
            let (mut a, mut b) = (vec![0.0; length], vec![1.0; length]);
            there.read(first, &mut a).expect("a file");
            here.read(first, &mut b).expect("in memory");
            assert_eq!(a, b);
        }
        assert!(there.read(count, &mut [0.0]).is_err());
    }

    /// A transposed matrix, and one that needs a number beyond the last.
    #[test]
    fn strides_are_followed() {
        let bytes: Vec<u8> = (0..6).collect();
        assert_eq!(
            gather(&bytes, 1, &[3, 2], &[1, 3], 0),
            Some(vec![0, 3, 1, 4, 2, 5])
        );
        assert_eq!(gather(&bytes, 1, &[2], &[2], 1), Some(vec![1, 3]));
        assert_eq!(gather(&bytes, 1, &[], &[], 5), Some(vec![5]));
        assert_eq!(gather(&bytes, 1, &[3, 2], &[1, 4], 0), None);
        assert_eq!(
            gather(&bytes, 1, &[0, usize::MAX], &[1, 4], 0),
            Some(vec![])
        );
        assert_eq!(gather(&bytes, 1, &[usize::MAX, 2], &[1, 4], 0), None);
    }
}
