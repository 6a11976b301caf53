"""Writes `processes.json`, the numbers of `meta-algos/tests/oracles/processes.rs`, by PyTorch 2.9.0
(pip install torch==2.9.0): means, log-likelihoods and meta-gradients of neural processes on regression
tasks, in double precision, from PyTorch's own attention, layer normalisation and normal density.
"""

import json
import pathlib

import torch
from torch.nn.functional import layer_norm, scaled_dot_product_attention, softplus

import learners
from learners import FEATURES, OUTPUTS, QUERY, SHOT, TASKS, items, linear, parameters

WIDTH, HIDDEN, HEADS = 4, 5, 2
ENCODER = {name: shape for name, shape in learners.NETWORK.items()}


def layers(path, inputs, outputs, count):
    widths = [inputs] + [HIDDEN] * (count - 1) + [outputs]
    shapes = {}
    for layer, (i, o) in enumerate(zip(widths, widths[1:])):
        shapes |= {f"{path}.layers.{layer}.weight": (i, o), f"{path}.layers.{layer}.bias": (1, o)}
    return shapes


def attention(path):
    shapes = {}
    for part in ["query", "key", "value", "output"]:
        shapes |= {f"{path}.{part}.weight": (WIDTH, WIDTH), f"{path}.{part}.bias": (1, WIDTH)}
    return shapes


def norm(path):
    return {f"{path}.gamma": (1, WIDTH), f"{path}.beta": (1, WIDTH)}


def block(path):
    feed_forward = {
        f"{path}.expand.weight": (WIDTH, HIDDEN),
        f"{path}.expand.bias": (1, HIDDEN),
        f"{path}.contract.weight": (HIDDEN, WIDTH),
        f"{path}.contract.bias": (1, WIDTH),
    }
    norms = norm(f"{path}.attention_norm") | norm(f"{path}.feed_forward_norm")
    return norms | attention(f"{path}.attention") | feed_forward


def feed_forward(p, path, x, count):
    for layer in range(count - 1):
        x = linear(p, f"{path}.layers.{layer}", x).relu()
    return linear(p, f"{path}.layers.{count - 1}", x)


def normalise(p, path, x):
    gamma, beta = p[f"{path}.gamma"].flatten(), p[f"{path}.beta"].flatten()
    return layer_norm(x, (WIDTH,), gamma, beta, eps=1e-5)


def split(p, path, x):
    """Projected into heads."""
    return linear(p, path, x).unflatten(1, (HEADS, WIDTH // HEADS)).transpose(0, 1)


def attend(p, path, queries, keys, values, uniform):
    q, k = split(p, f"{path}.query", queries), split(p, f"{path}.key", keys)
    v = split(p, f"{path}.value", values)
    read = v.mean(1, keepdim=True).expand_as(q) if uniform else scaled_dot_product_attention(q, k, v)
    return linear(p, f"{path}.output", read.transpose(0, 1).flatten(1))


def add_feed_forward(p, path, x):
    hidden = linear(p, f"{path}.expand", normalise(p, f"{path}.feed_forward_norm", x)).relu()
    return x + linear(p, f"{path}.contract", hidden)


def pre_norm_block(p, path, x, memory, uniform):
    q, m = (normalise(p, f"{path}.attention_norm", tokens) for tokens in (x, memory))
    return add_feed_forward(p, path, x + attend(p, f"{path}.attention", q, m, m, uniform))


def cnp(p, support, query):
    read = feed_forward(p, "reader", torch.cat([learners.embed(p, support[0]), support[1]], 1), 2)
    known = read.mean(0).expand(len(query), -1)
    return feed_forward(p, "decoder", torch.cat([learners.embed(p, query), known], 1), 2)


def anp(uniform):
    def output(p, support, query):
        keys, queries = learners.embed(p, support[0]), learners.embed(p, query)
        values = feed_forward(p, "reader", torch.cat([keys, support[1]], 1), 2)
        for layer in range(2):
            values = pre_norm_block(p, f"blocks.{layer}", values, values, uniform)
        known = attend(p, "cross", queries, keys, values, uniform)
        return feed_forward(p, "decoder", torch.cat([queries, known], 1), 2)

    return output


def tnp(uniform):
    """One sequence under a mask, as the paper has it: every token reads the support alone."""

    def output(p, support, query):
        x = learners.embed(p, torch.cat([support[0], query]))
        y = torch.cat([support[1], torch.zeros(len(query), OUTPUTS)])
        tokens = feed_forward(p, "embed", torch.cat([x, y], 1), 2)
        for layer in range(2):
            tokens = pre_norm_block(p, f"blocks.{layer}", tokens, tokens[: len(support[0])], uniform)
        return feed_forward(p, "decoder", normalise(p, "norm", tokens[len(support[0]) :]), 2)

    return output


def record(shapes, network):
    p = parameters(ENCODER | shapes)
    (sx, _, sy), (qx, _, qy) = items(SHOT, 0.4), items(QUERY, 1.1)
    means, densities = [], []
    for t in range(TASKS):
        mean, raw = network(p, (sx[t], sy[t]), qx[t]).chunk(2, 1)
        normal = torch.distributions.Normal(mean, 0.1 + 0.9 * softplus(raw))
        means.append(mean)
        densities.append(normal.log_prob(qy[t]).mean())
    gradients = torch.autograd.grad(-torch.stack(densities).mean(), list(p.values()), allow_unused=True)
    gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(p.values(), gradients)]
    return {
        "answers": torch.stack(means).flatten().tolist(),
        "log_likelihoods": [density.item() for density in densities],
        "gradients": {name: g.flatten().tolist() for name, g in zip(p, gradients)},
    }


BLOCKS = block("blocks.0") | block("blocks.1")
CNP = layers("reader", WIDTH + OUTPUTS, HIDDEN, 2) | layers("decoder", WIDTH + HIDDEN, 2 * OUTPUTS, 2)
ANP = (
    layers("reader", WIDTH + OUTPUTS, WIDTH, 2)
    | BLOCKS
    | attention("cross")
    | layers("decoder", 2 * WIDTH, 2 * OUTPUTS, 2)
)
TNP = (
    layers("embed", WIDTH + OUTPUTS, WIDTH, 2)
    | BLOCKS
    | norm("norm")
    | layers("decoder", WIDTH, 2 * OUTPUTS, 2)
)


def cases():
    return {
        "cnp": record(CNP, cnp),
        "anp": record(ANP, anp(uniform=False)),
        "anp, uniform": record(ANP, anp(uniform=True)),
        "tnp": record(TNP, tnp(uniform=False)),
        "tnp, uniform": record(TNP, tnp(uniform=True)),
    }


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases().items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
