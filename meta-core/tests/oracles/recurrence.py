"""Writes `recurrence.json`, the numbers of `meta-core/tests/derivatives/recurrent.rs`, by PyTorch 2.9.0
(pip install torch==2.9.0), in f64: an LSTM and a GRU on sequences, their outputs, the gradients of
`sum(direction * tanh(outputs))`, and the gradients of the product of those with a fixed direction each."""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
batch, length, inputs, width = 2, 4, 3, 2
numbers = {}
for name, layer in [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)]:
    net = layer(inputs, width, batch_first=True)
    x = torch.randn(batch, length, inputs, requires_grad=True)
    direction = torch.randn(batch, length, width)
    outputs, _ = net(x)
    operands = {"x": x, **dict(net.named_parameters())}
    loss = (outputs.tanh() * direction).sum()
    first = torch.autograd.grad(loss, list(operands.values()), create_graph=True)
    along = [torch.randn_like(gradient) for gradient in first]
    product = sum((gradient * v).sum() for gradient, v in zip(first, along))
    second = torch.autograd.grad(product, list(operands.values()))
    numbers |= {f"{name}.direction": direction, f"{name}.outputs": outputs}
    for key, value, g, v, h in zip(operands, operands.values(), first, along, second):
        parts = {"": value, ".grad": g, ".along": v, ".second": h}
        numbers |= {f"{name}.{key}{part}": tensor for part, tensor in parts.items()}


def plain(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


file = pathlib.Path(__file__).with_suffix(".json")
file.write_text(json.dumps({name: plain(tensor) for name, tensor in numbers.items()}, indent=1) + "\n")
