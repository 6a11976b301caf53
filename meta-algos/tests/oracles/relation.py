"""Writes `relation.json`, the numbers of `relation.rs`, by PyTorch 2.9.0 (pip install torch==2.9.0): answers, losses
and meta-gradients of a relation network with its convolutional module (Sung et al., CVPR 2018, and the authors'
code), in double precision. Batch statistics are of a task's items in the encoder, and of its pairs in the module.
"""

import json
import pathlib

import torch
from torch import sigmoid
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d, mse_loss, one_hot

from learners import WAY, record

SIDE, CHANNELS, HIDDEN, WIDTH = 12, 2, 5, 5


def conv(path, inputs, outputs):
    return {f"{path}.weight": (9, inputs, outputs)}


def norm(path, channels):
    return {f"{path}.gamma": (1, channels), f"{path}.beta": (1, channels)}


def dense(path, inputs, outputs):
    return {f"{path}.weight": (inputs, outputs), f"{path}.bias": (1, outputs)}


SHAPES = (
    conv("encoder.blocks.0.conv", 1, CHANNELS)
    | norm("encoder.blocks.0.norm", CHANNELS)
    | conv("encoder.blocks.1.conv", CHANNELS, CHANNELS)
    | norm("encoder.blocks.1.norm", CHANNELS)
    | conv("relation.first", 2 * CHANNELS, HIDDEN)
    | conv("relation.second", HIDDEN, HIDDEN)
    | norm("relation.norms.0", HIDDEN)
    | norm("relation.norms.1", HIDDEN)
    | dense("relation.hidden", HIDDEN, WIDTH)
    | dense("relation.output", WIDTH, 1)
)


def block(p, convolution, normalisation, x, padding, pools):
    """3×3 convolution, normalisation by the batch, ReLU, and pooling where there is any."""
    weight = p[f"{convolution}.weight"]
    weight = weight.reshape(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)
    gamma, beta = p[f"{normalisation}.gamma"][0], p[f"{normalisation}.beta"][0]
    x = batch_norm(conv2d(x, weight, padding=padding), None, None, gamma, beta, training=True).relu()
    return max_pool2d(x, 2) if pools else x


def layer(p, path, x):
    return linear(x, p[f"{path}.weight"].T, p[f"{path}.bias"][0])


def task_loss(p, support, query):
    x = torch.cat([support[0], query[0]]).reshape(-1, 1, SIDE, SIDE)
    x = block(p, "encoder.blocks.0.conv", "encoder.blocks.0.norm", x, padding=0, pools=True)
    x = block(p, "encoder.blocks.1.conv", "encoder.blocks.1.norm", x, padding=1, pools=False)
    maps, queries = x[: len(support[0])], x[len(support[0]) :]
    classes = torch.stack([maps[support[1] == n].sum(0) for n in range(WAY)])
    pairs = torch.stack([torch.cat([c, q]) for q in queries for c in classes])
    x = block(p, "relation.first", "relation.norms.0", pairs, padding=1, pools=True)
    x = block(p, "relation.second", "relation.norms.1", x, padding=1, pools=True).flatten(1)
    answer = layer(p, "relation.output", layer(p, "relation.hidden", x).relu()).reshape(-1, WAY)
    return answer, mse_loss(sigmoid(answer), one_hot(query[1]).double())


if __name__ == "__main__":
    case = record(SHAPES, task_loss, features=SIDE * SIDE)
    text = f"{{\n{json.dumps('relation_net, convolutional')}: {json.dumps(case)}\n}}\n"
    pathlib.Path(__file__).with_suffix(".json").write_text(text)
