//! Event files of TensorBoard: records of bytes with checksums, each a message of Protocol Buffers.
//!
//! A record is its length in eight bytes, a masked CRC-32C of these, its bytes, and a masked CRC-32C of them.
//! Numbers are little-endian. The messages are `Event`, `Summary` and `TensorProto` of TensorFlow.

use super::protobuf::Message;

/// The table of CRC-32C (Castagnoli), of the reflected polynomial 0x82F63B78.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 {
                (rest >> 1) ^ 0x82F6_3B78
            } else {
                rest >> 1
            };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// CRC-32C of some bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| TABLE[((sum ^ u32::from(*byte)) & 0xFF) as usize] ^ (sum >> 8);
    !bytes.iter().fold(!0, step)
}

/// The checksum as records have it, which is no checksum of data that hold checksums.
fn masked(bytes: &[u8]) -> [u8; 4] {
    let sum = crc32c(bytes);
    sum.rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

/// A value of a summary: a number.
pub fn scalar_value(tag: &str, value: f64) -> Message {
    Message::default().text(1, tag).float(2, value as f32)
}

/// A file of events.
#[derive(Debug, Default)]
pub struct EventFile {
    /// The records so far.
    pub bytes: Vec<u8>,
}

impl EventFile {
    /// A file that says which form it has.
    pub fn new(seconds: f64) -> Self {
        let mut file = EventFile::default();
        file.record(
            &Message::default()
                .double(1, seconds)
                .bytes(3, b"brain.Event:2"),
        );
        file
    }

    /// Adds a value of a summary at an iteration; `seconds` since 1970.
    pub fn add(&mut self, seconds: f64, step: u64, value: Message) {
        let event = Message::default().double(1, seconds).number(2, step);
        self.record(&event.message(5, Message::default().message(1, value)));
    }

    /// Says that a session starts at an iteration: readers forget what they have read of it and of later ones.
    pub fn session_starts(&mut self, seconds: f64, step: u64) {
        let event = Message::default().double(1, seconds).number(2, step);
        // Of the states of a session, its start is 1.
        self.record(&event.message(7, Message::default().number(1, 1)));
    }

    fn record(&mut self, event: &Message) {
        let length = (event.as_bytes().len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(masked(&length));
        self.bytes.extend(event.as_bytes());
        self.bytes.extend(masked(event.as_bytes()));
    }
}

/// The first record in `bytes`, and what follows it; none where it is not whole or its checksums are others.
fn first_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(12)?;
    let (length, sum) = head.split_at(8);
    if masked(length) != sum {
        return None;
    }
    let length = u64::from_le_bytes(length.try_into().ok()?);
    let (data, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (sum, rest) = rest.split_at_checked(4)?;
    (masked(data) == sum).then_some((data, rest))
}

/// A varint at the beginning of `bytes`, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(7 * place as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

/// The iteration of an event: its field 2, or 0.
pub fn step(mut event: &[u8]) -> u64 {
    while let Some((key, rest)) = varint(event) {
        let skipped = match key & 7 {
            0 => match varint(rest) {
                Some((value, _)) if key >> 3 == 2 => return value,
                Some((_, rest)) => Some(rest),
                None => None,
            },
            1 => rest.get(8..),
            2 => varint(rest).and_then(|(length, rest)| rest.get(usize::try_from(length).ok()?..)),
            5 => rest.get(4..),
            _ => None,
        };
        match skipped {
            Some(rest) => event = rest,
            None => break,
        }
    }
    0
}

/// How many bytes of a file hold whole records, none of which is later than iteration `last`.
pub fn kept_until(bytes: &[u8], last: u64) -> usize {
    let mut rest = bytes;
    while let Some((_, after)) = first_record(rest).filter(|(event, _)| step(event) <= last) {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// The messages of the records in `bytes`, as far as they are whole.
#[cfg(test)]
pub fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((data, rest)) = first_record(bytes) {
        found.push(data);
        bytes = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the algorithm, and those of RFC 3720, B.4.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }

    #[test]
    fn records_are_read_back_and_damage_is_found() {
        let mut file = EventFile::new(1.5);
        file.add(2.5, 7, Message::default().bytes(1, b"loss").float(2, 0.25));
        let read = records(&file.bytes);
        assert_eq!(read.len(), 2);
        assert_eq!((step(read[0]), step(read[1])), (0, 7));
        assert!(read[0].ends_with(b"brain.Event:2"));
        // What a kill left of the last record is left out.
        let cut = &file.bytes[..file.bytes.len() - 3];
        assert_eq!(records(cut).len(), 1);
        let mut damaged = file.bytes.clone();
        let last = damaged.len() - 6;
        damaged[last] ^= 1;
        assert_eq!(records(&damaged).len(), 1);
    }

    /// What was written after a checkpoint is cut, wherever it ends.
    #[test]
    fn a_file_is_cut_after_an_iteration() {
        let mut file = EventFile::new(0.0);
        let mut ends = vec![file.bytes.len()];
        for iteration in [10, 20, 300, 300, 400] {
            file.add(1.0, iteration, scalar_value("train/loss", 0.5));
            ends.push(file.bytes.len());
        }
        for (last, records) in [(0, 0), (10, 1), (299, 2), (300, 4), (1000, 5)] {
            assert_eq!(kept_until(&file.bytes, last), ends[records], "{last}");
        }
        assert_eq!(kept_until(&file.bytes[..ends[2] + 5], 1000), ends[2]);
        assert_eq!(kept_until(b"no events at all", 1000), 0);
        assert_eq!(step(&[0xFF; 20]), 0);
    }
}
