"""Writes `lstm.json`, the numbers of `meta-core/tests/f64/recurrent.rs`, by PyTorch 2.9.0
(pip install torch==2.9.0): a bidirectional LSTM, its outputs, and the gradients of
`sum(direction * tanh(outputs))`."""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(5)
batch, length, inputs, width = 2, 4, 3, 2
lstm = torch.nn.LSTM(inputs, width, batch_first=True, bidirectional=True)
x = torch.randn(batch, length, inputs, requires_grad=True)
direction = torch.randn(batch, length, 2 * width)
outputs, (hidden, cell) = lstm(x)
(outputs.tanh() * direction).sum().backward()


def plain(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


numbers = {"x": x, "direction": direction, "outputs": outputs, "hidden": hidden, "cell": cell, "x.grad": x.grad}
for name, parameter in lstm.named_parameters():
    numbers |= {name: parameter, f"{name}.grad": parameter.grad}
file = pathlib.Path(__file__).with_suffix(".json")
file.write_text(json.dumps({name: plain(tensor) for name, tensor in numbers.items()}, indent=1) + "\n")
