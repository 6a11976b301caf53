"""Writes `multi_head.json`, the numbers of `meta-core/tests/f64/attention.rs`, by PyTorch 2.9.0
(pip install torch==2.9.0): multi-head attention of queries to a wider memory of which some is hidden,
its read and map, and the gradients of `sum(direction * tanh(read))`."""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(6)
batch, queries, keys, width, memory_width, heads = 2, 3, 4, 6, 5, 2
layer = torch.nn.MultiheadAttention(width, heads, batch_first=True, kdim=memory_width, vdim=memory_width)
for parameter in layer.parameters():
    torch.nn.init.normal_(parameter, std=0.6)
x = torch.randn(batch, queries, width, requires_grad=True)
memory = torch.randn(batch, keys, memory_width, requires_grad=True)
direction = torch.randn(batch, queries, width)
hidden = torch.tensor([[False, False, False, False], [False, False, False, True]])
read, map = layer(x, memory, memory, key_padding_mask=hidden, average_attn_weights=False)
(read.tanh() * direction).sum().backward()


def plain(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().to(torch.float64).flatten().tolist()}


numbers = {"x": x, "memory": memory, "direction": direction, "read": read, "map": map, "x.grad": x.grad, "memory.grad": memory.grad}
for name, parameter in layer.named_parameters():
    numbers |= {name: parameter, f"{name}.grad": parameter.grad}
file = pathlib.Path(__file__).with_suffix(".json")
file.write_text(json.dumps({name: plain(tensor) for name, tensor in numbers.items()}, indent=1) + "\n")
