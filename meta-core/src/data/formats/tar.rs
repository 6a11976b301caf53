//! Members of a tar archive, in the order that they lie in.

use std::io::Read;
use std::path::Path;

use super::unpacked::{MAXIMUM_TEXT, open_unpacked};
use crate::error::{Error, Result};

/// The largest member that is read.
const MAXIMUM_MEMBER: u64 = 1 << 30;
const BLOCK: usize = 512;

/// Gives the regular files of a `.tar` or `.tar.gz` whose names are wanted to `take`, one after the other.
///
/// # Errors
/// [`Error::Data`] for what is no tar archive, is cut short or too large; those of `take`.
pub fn read_tar(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let (_, mut archive) = open_unpacked(path, MAXIMUM_TEXT)?;
    let mut header = [0; BLOCK];
    loop {
        let read = archive.read_exact(&mut header);
        read.map_err(|error| Error::data(path, format!("is cut short: {error}")))?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        if octal(&header[148..156]) != Some(checksum(&header)) {
            return Err(Error::data(
                path,
                "is no tar archive: a header has another checksum",
            ));
        }
        let name = member_name(&header);
        let size = octal(&header[124..136]).filter(|&size| size <= MAXIMUM_MEMBER);
        let size = size.ok_or_else(|| {
            let message = format!(
                "holds `{name}` with more than {MAXIMUM_MEMBER} bytes, the most that is read"
            );
            Error::data(path, message)
        })?;
        let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let mut member = (&mut archive).take(padded);
        let is_file = matches!(header[156], 0 | b'0');
        let copied = if is_file && wanted(&name) {
            let mut bytes = Vec::new();
            let read = member.read_to_end(&mut bytes);
            read.map(|read| {
                bytes.truncate(size as usize);
                (read as u64, Some(bytes))
            })
        } else {
            std::io::copy(&mut member, &mut std::io::sink()).map(|read| (read, None))
        };
        match copied {
            Ok((read, bytes)) if read == padded => {
                if let Some(bytes) = bytes {
                    take(&name, bytes)?;
                }
            }
            Ok(_) => return Err(Error::data(path, format!("is cut short in `{name}`"))),
            Err(error) => {
                return Err(Error::data(
                    path,
                    format!("`{name}` cannot be read: {error}"),
                ));
            }
        }
    }
}

/// A number in octal digits, between spaces or zeros.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

/// The sum of the bytes, where those of the checksum itself count as spaces.
fn checksum(header: &[u8; BLOCK]) -> u64 {
    let own = 148..156;
    let byte = |(place, &byte): (usize, &u8)| match own.contains(&place) {
        true => u64::from(b' '),
        false => u64::from(byte),
    };
    header.iter().enumerate().map(byte).sum()
}

fn member_name(header: &[u8; BLOCK]) -> String {
    let text = |field: &[u8]| {
        let end = field
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    if prefix.is_empty() || &header[257..262] != b"ustar" {
        return name;
    }
    format!("{prefix}/{name}")
}
