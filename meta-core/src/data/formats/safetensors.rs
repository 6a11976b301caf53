//! Safetensors: tensors by name, left in the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::array::{Array, Element, Numbers, Region};
use crate::error::{Error, Result};
use crate::files::open_regular;

/// The longest header that is read.
const MAXIMUM_HEADER: u64 = 1 << 26;

/// An open file.
pub(super) struct SafeTensors {
    path: PathBuf,
    metadata: Metadata,
    /// What comes after the header.
    data: Region,
}

impl SafeTensors {
    /// Opens the file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let fault = |reason: String| Error::data(path, reason);
        let unreadable = |error| Error::io(path, "read", error);
        let file = open_regular(path, u64::MAX)?.into_inner();
        let length = file.metadata().map_err(unreadable)?.len();
        let whole = Region::file(Arc::new(file), 0, length);
        let mut size = [0; 8];
        if length < 8 {
            return Err(fault("is cut short: no safetensors header".to_owned()));
        }
        whole.read(0, &mut size).map_err(unreadable)?;
        let size = u64::from_le_bytes(size);
        let header = whole.part(8, size).filter(|_| size <= MAXIMUM_HEADER);
        let header = header.ok_or_else(|| {
            fault(format!(
                "is no safetensors file, or is cut short: a header of {size} bytes in {length}"
            ))
        })?;
        let header = header.to_vec(MAXIMUM_HEADER).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| {
            fault(format!(
                "has a header that is not that of safetensors: {error}"
            ))
        })?;
        let (start, needed) = (8 + size, metadata.data_len() as u64);
        let found = length - start;
        let data = whole.part(start, needed).filter(|_| found == needed);
        let data = data.ok_or_else(|| {
            fault(format!(
                "is cut short, or has more than its header says: tensors of {needed} bytes, and there \
                 are {found}"
            ))
        })?;
        Ok(SafeTensors {
            path: path.to_owned(),
            metadata,
            data,
        })
    }

    /// Names of the tensors.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// The tensor of that name, which is one of [`SafeTensors::names`].
    pub fn array(&self, name: &str) -> Result<Array> {
        let fault = |reason: String| Error::data(&self.path, format!("tensor `{name}` {reason}"));
        let info = self.metadata.info(name);
        let info = info.ok_or_else(|| fault("is not there".to_owned()))?;
        let element = match info.dtype {
            Dtype::BOOL => Element::Bool,
            Dtype::U8 => Element::U8,
            Dtype::I8 => Element::I8,
            Dtype::I16 => Element::I16,
            Dtype::U16 => Element::U16,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::BF16,
            Dtype::I32 => Element::I32,
            Dtype::U32 => Element::U32,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            Dtype::I64 => Element::I64,
            Dtype::U64 => Element::U64,
            other => {
                return Err(fault(format!(
                    "holds {other:?}; numbers of 8 to 64 bits are read"
                )));
            }
        };
        let (start, end) = info.data_offsets;
        let region = self.data.part(start as u64, (end - start) as u64);
        let numbers = region.and_then(|region| Numbers::new(info.shape.clone(), element, region));
        let numbers = numbers.ok_or_else(|| fault("does not lie in the file".to_owned()))?;
        Ok(Array::Numbers(numbers))
    }
}
