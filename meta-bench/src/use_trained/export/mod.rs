//! `meta export`: the encoder of a run for other programs; each target is a file here.

pub mod onnx;
mod onnx_model;
pub mod safetensors;
mod weights;
