//! ONNX's messages, as far as an encoder needs them. Names and numbers of fields: `onnx/onnx.proto` of the ONNX
//! project, IR version 8, operator set 17.

use super::weights::Named;
use crate::output::protobuf::Message;

/// Version of the file format.
const IR_VERSION: u64 = 8;
/// Version of the operators.
const OPERATORS: u64 = 17;
/// Single precision.
const FLOAT: u64 = 1;

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
            node = node.message(5, attribute);
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
    for node in graph.nodes {
        message = message.message(1, node);
    }
    // The result under the name that it has outside.
    let last = Message::default().text(1, result).text(2, &output.name);
    let last = last.text(3, "result").text(4, "Identity");
    message = message.message(1, last).text(2, "encoder");
    for weight in weights {
        message = message.message(5, tensor(weight));
    }
    message = message
        .message(11, described(input))
        .message(12, described(output));
    let operators = Message::default().text(1, "").number(2, OPERATORS);
    let mut whole = Message::default()
        .number(1, IR_VERSION)
        .text(2, producer)
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, message)
        .message(8, operators);
    for (key, value) in properties {
        whole = whole.message(14, Message::default().text(1, key).text(2, value));
    }
    whole.into_bytes()
}

/// A file with one tensor, and a note in it.
pub fn tensor_file(named: &Named, note: &str) -> Vec<u8> {
    tensor(named).text(12, note).into_bytes()
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
    let mut shape = Message::default().message(1, Message::default().text(2, "items"));
    for &size in &named.shape[1..] {
        shape = shape.message(1, Message::default().number(1, size as u64));
    }
    let kind = Message::default().number(1, FLOAT).message(2, shape);
    let kind = Message::default().message(1, kind);
    Message::default().text(1, &named.name).message(2, kind)
}
