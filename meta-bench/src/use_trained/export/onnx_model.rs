//! ONNX's messages, as far as an encoder needs them, in Protocol Buffers' wire format.
//!
//! A message is its fields one after the other: the field's number with its wire type, then the value (a
//! number of seven bits a byte, four bytes, or a length and bytes). Names and numbers of fields:
//! `onnx/onnx.proto` of the ONNX project, IR version 8, operator set 17.

use super::weights::Named;

/// Version of the file format.
const IR_VERSION: u64 = 8;
/// Version of the operators.
const OPERATORS: u64 = 17;
/// Single precision.
const FLOAT: u64 = 1;

/// A message as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A whole number.
    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// A number of single precision.
    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes, a text or a message.
    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }
}

/// A setting of a node.
#[derive(Clone, Copy, Debug)]
pub enum Setting<'a> {
    /// A whole number.
    Whole(u64),
    /// A number.
    Real(f32),
    /// Whole numbers.
    Wholes(&'a [u64]),
}

/// Nodes one after the other, and the tensors that they use.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Message>,
}

impl Graph {
    /// Adds an operation on tensors of these names, and gives the name of its result.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        settings: &[(&str, Setting<'_>)],
    ) -> String {
        let name = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        let mut node = Message::default();
        for input in inputs {
            node = node.text(1, input);
        }
        node = node.text(2, &name).text(3, &name).text(4, operator);
        for (key, setting) in settings {
            let attribute = Message::default().text(1, key);
            let attribute = match *setting {
                Setting::Real(value) => attribute.float(2, value).number(20, 1),
                Setting::Whole(value) => attribute.number(3, value).number(20, 2),
                Setting::Wholes(values) => values
                    .iter()
                    .fold(attribute, |message, &value| message.number(8, value))
                    .number(20, 7),
            };
            node = node.message(5, &attribute);
        }
        self.nodes.push(node);
        name
    }
}

/// A whole model: `graph`, whose last result has the name `result`, on the weights; `input` and `output` are
/// an example, of which the names and all sizes but the first are taken.
pub fn model(
    graph: Graph,
    result: &str,
    weights: &[Named],
    [input, output]: [&Named; 2],
    producer: &str,
    properties: &[(&str, String)],
) -> Vec<u8> {
    let mut message = Message::default();
    for node in &graph.nodes {
        message = message.message(1, node);
    }
    // The result under the name that it has outside.
    let last = Message::default().text(1, result).text(2, &output.name);
    let last = last.text(3, "result").text(4, "Identity");
    message = message.message(1, &last).text(2, "encoder");
    for weight in weights {
        message = message.message(5, &tensor(weight));
    }
    message = message
        .message(11, &described(input))
        .message(12, &described(output));
    let operators = Message::default().text(1, "").number(2, OPERATORS);
    let mut whole = Message::default()
        .number(1, IR_VERSION)
        .text(2, producer)
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &message)
        .message(8, &operators);
    for (key, value) in properties {
        whole = whole.message(14, &Message::default().text(1, key).text(2, value));
    }
    whole.0
}

/// A file with one tensor, and a note in it.
pub fn tensor_file(named: &Named, note: &str) -> Vec<u8> {
    tensor(named).text(12, note).0
}

fn tensor(named: &Named) -> Message {
    let sizes = named.shape.iter();
    let message = sizes.fold(Message::default(), |message, &size| {
        message.number(1, size as u64)
    });
    let numbers = named.numbers.iter();
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    message
        .number(2, FLOAT)
        .text(8, &named.name)
        .bytes(9, &bytes)
}

/// The name and type of a tensor of any number of items.
fn described(named: &Named) -> Message {
    let mut shape = Message::default().message(1, &Message::default().text(2, "items"));
    for &size in &named.shape[1..] {
        shape = shape.message(1, &Message::default().number(1, size as u64));
    }
    let kind = Message::default().number(1, FLOAT).message(2, &shape);
    let kind = Message::default().message(1, &kind);
    Message::default().text(1, &named.name).message(2, &kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the documentation of Protocol Buffers' encoding.
    #[test]
    fn fields_are_encoded() {
        assert_eq!(Message::default().number(1, 150).0, [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(text.0, *b"\x12\x07testing");
        let inner = Message::default().number(1, 150);
        assert_eq!(
            Message::default().message(3, &inner).0,
            [0x1a, 0x03, 0x08, 0x96, 0x01]
        );
        assert_eq!(Message::default().float(2, 0.5).0, [0x15, 0, 0, 0, 0x3f]);
        assert_eq!(Message::default().number(20, 7).0, [0xa0, 0x01, 0x07]);
    }
}
