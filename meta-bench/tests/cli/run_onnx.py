"""Checks the model in a folder that `meta export --to onnx` wrote: python run_onnx.py FOLDER (needs onnx, onnxruntime)."""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

folder = pathlib.Path(sys.argv[1])
model = onnx.load(folder / "model.onnx")
onnx.checker.check_model(model, full_check=True)
example = []
for name in ("input_0.pb", "output_0.pb"):
    tensor = onnx.TensorProto()
    tensor.ParseFromString((folder / "test_data_set_0" / name).read_bytes())
    example.append(numpy_helper.to_array(tensor))
x, expected = example
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
(found,) = session.run(None, {"input": x})
(alone,) = session.run(["embedding"], {"input": x[:1]})
assert found.shape == expected.shape and alone.shape == expected[:1].shape, (found.shape, expected.shape)
scale = max(np.abs(expected).max(), 1e-6)
# Single precision, sums of up to a few thousand products.
for found, expected in ((found, expected), (alone, expected[:1])):
    error = np.abs(found - expected).max() / scale
    assert error < 1e-5, error
print(f"{x.shape} -> {expected.shape}, relative error {error:.1e}")
