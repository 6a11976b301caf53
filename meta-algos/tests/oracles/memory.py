"""Writes `memory.json`, the numbers of `memory.rs`, by PyTorch 2.9.0 (pip install torch==2.9.0):
answers, losses and meta-gradients of learners that read the support as a sequence, one task and one
query after the other, in double precision.
"""

import json
import pathlib
import struct

import torch
from torch import sigmoid
from torch.nn.functional import (
    conv1d,
    cross_entropy,
    mse_loss,
    one_hot,
    pad,
    scaled_dot_product_attention,
    softmax,
)

from learners import NETWORK, OUTPUTS, WAY, cell, cell_shapes, embed, layer, linear, record


def number(values):
    """FNV-1a over the bits of the numbers in single precision, finished as in SplitMix64."""
    h = 0xCBF29CE484222325
    for value in values:
        h = ((h ^ struct.unpack("<I", struct.pack("<f", value))[0]) * 0x100000001B3) % 2**64
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) % 2**64
    return h ^ (h >> 31)


def presented(p, support, regression):
    """Embedded items and their labels, in the order of presentation."""
    inputs, targets = support
    order = sorted(range(len(inputs)), key=lambda item: number(inputs[item].tolist()))
    labels = targets if regression else one_hot(targets, WAY).double()
    return embed(p, inputs)[order], labels[order], targets[order]


def mann(hidden, slots, width, heads, decay, sharpness, regression=False):
    read = heads * width
    shapes = NETWORK | cell_shapes("controller", 4 + OUTPUTS + read, hidden)
    shapes |= layer("key", hidden, read) | layer("gate", hidden, heads)
    shapes |= layer("head", hidden + read, OUTPUTS)
    criterion = mse_loss if regression else cross_entropy

    def address(p, h, memory):
        k = linear(p, "key", h).tanh().reshape(heads, width)
        lengths = k.norm(dim=1)[:, None] * ((memory**2).sum(1) + 1e-12).sqrt()
        return softmax(sharpness * k @ memory.T / lengths, 1)

    def task_loss(p, support, query):
        items, labels, targets = presented(p, support, regression)
        h, c, r = torch.zeros(1, hidden), torch.zeros(1, hidden), torch.zeros(read)
        memory, w_r, w_u = torch.zeros(slots, width), torch.zeros(heads, slots), torch.zeros(slots)
        nothing, seen = torch.zeros(OUTPUTS), []
        for step in range(len(items) + 1):
            item = items[step] if step < len(items) else torch.zeros(4)
            label = labels[step - 1] if step > 0 else nothing
            h, c = cell(p, "controller", torch.cat([item, label, r])[None], h, c)
            k = linear(p, "key", h).tanh().reshape(heads, width)
            gate = sigmoid(linear(p, "gate", h)).reshape(heads, 1)
            w_lu = torch.zeros(heads, slots)
            for head, slot in enumerate(w_u.argsort(stable=True)[:heads]):
                w_lu[head, slot] = 1.0
            w_w = gate * w_r + (1 - gate) * w_lu
            memory = torch.stack([
                (0.0 if w_lu[:, slot].any() else memory[slot])
                + sum(w_w[head, slot] * k[head] for head in range(heads))
                for slot in range(slots)
            ])
            w_r = address(p, h, memory)
            r = (w_r @ memory).flatten()
            w_u = (decay * w_u + w_r.sum(0) + w_w.sum(0)).detach()
            if step < len(items):
                seen.append(linear(p, "head", torch.cat([h[0], r])[None])[0])
        answers = []
        for x in embed(p, query[0]):
            h_q, _ = cell(p, "controller", torch.cat([x, nothing, r])[None], h, c)
            r_q = (address(p, h_q, memory) @ memory).flatten()
            answers.append(linear(p, "head", torch.cat([h_q[0], r_q])[None])[0])
        loss = criterion(torch.stack(seen + answers), torch.cat([targets, query[1]]))
        return torch.stack(answers), loss

    return record(shapes, task_loss, regression)


def dense(p, path, x, dilation):
    """A causal convolution of two taps, half of it a gate, beside its input."""
    kernel = torch.stack([p[f"{path}.before"].T, p[f"{path}.now.weight"].T], 2)
    padded = pad(x.T[None], (dilation, 0))
    value, gate = conv1d(padded, kernel, p[f"{path}.now.bias"][0], dilation=dilation)[0].T.chunk(2, 1)
    return torch.cat([x, value.tanh() * sigmoid(gate)], 1)


def read_past(p, path, x, uniform=False):
    q, k, v = (linear(p, f"{path}.{name}", x) for name in ["query", "key", "value"])
    if uniform:
        q = torch.zeros_like(q)
    read = scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    return torch.cat([x, read], 1)


def snail_shapes(width, keys, values, filters, levels, path=""):
    """Three attention blocks with temporal convolutions between them, and the width of what comes out."""
    shapes = {}
    for block in range(3):
        if block > 0:
            for level in range(levels):
                conv = f"{path}temporal.{block - 1}.blocks.{level}.conv"
                shapes |= layer(f"{conv}.now", width, 2 * filters)
                shapes[f"{conv}.before"] = (width, 2 * filters)
                width += filters
        for name, size in [("query", keys), ("key", keys), ("value", values)]:
            shapes |= layer(f"{path}attention.{block}.{name}", width, size[block])
        width += values[block]
    return shapes, width


def read_snail(p, x, levels, uniform=False, path=""):
    for block in range(3):
        if block > 0:
            for level in range(levels):
                x = dense(p, f"{path}temporal.{block - 1}.blocks.{level}.conv", x, 2**level)
        x = read_past(p, f"{path}attention.{block}", x, uniform)
    return x


def snail(keys, values, filters, levels, uniform=False, regression=False):
    criterion = mse_loss if regression else cross_entropy
    blocks, width = snail_shapes(4 + OUTPUTS, keys, values, filters, levels)
    shapes = NETWORK | blocks | layer("head", width, OUTPUTS)

    def task_loss(p, support, query):
        items, labels, _ = presented(p, support, regression)
        answers = []
        for x in embed(p, query[0]):
            last = torch.cat([x, torch.zeros(OUTPUTS)])[None]
            x = torch.cat([torch.cat([items, labels], 1), last])
            x = read_snail(p, x, levels, uniform)
            answers.append(linear(p, "head", x[-1:])[0])
        answers = torch.stack(answers)
        return answers, criterion(answers, query[1])

    return record(shapes, task_loss, regression)


def cases():
    return {
        "mann": mann(4, 6, 3, 2, 0.95, 3.0),
        "mann, one head, as in the paper": mann(5, 4, 3, 1, 0.5, 1.0),
        "mann, regression": mann(4, 6, 3, 2, 0.95, 3.0, regression=True),
        "snail": snail([2, 3, 4], [2, 2, 3], 2, 3),
        "snail, uniform": snail([2, 3, 4], [2, 2, 3], 2, 3, uniform=True),
        "snail, regression": snail([2, 3, 4], [2, 2, 3], 2, 3, regression=True),
    }


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases().items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
