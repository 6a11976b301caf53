"""Learners that read the support as a context: neural processes, a transformer, SNAIL. All tasks at once,
and no gradient steps: losses `[t]` from the parameters."""

import math

import torch
import torch.nn.functional as F

from torch_attention import attend, attention_map, stack


def embedded(network, p, support, query):
    """Supports `[t, s, d]` and queries `[t, q, d]` behind the encoder."""
    both = torch.cat([support[0], query[0]], 1)
    tasks, items, _ = both.shape
    embeddings = network.encode(p, both.flatten(0, 1)).unflatten(0, (tasks, items))
    return embeddings.split([support[0].shape[1], query[0].shape[1]], 1)


def feed_forward(network, p, name, x):
    """Linear layers, ReLU between two."""
    layers = sum(parameter.startswith(f"{name}.layers.") for parameter in p) // 2
    for layer in range(layers):
        x = network.linear(p, f"{name}.layers.{layer}", F.relu(x) if layer > 0 else x)
    return x


def normal_losses(workload, output, values):
    """Mean of `-ln p(y)` of each task, of normals with means and deviations `output [t, q, 2 outputs]`."""
    mean, spread = output.chunk(2, 2)
    least = workload.settings["least_deviation"]
    deviation = least + (1 - least) * F.softplus(spread)
    density = -0.5 * ((values - mean) / deviation).square() - deviation.log()
    return 0.5 * math.log(2 * math.pi) - density.mean((1, 2))


def cnp_losses(workload, network, p, support, query):
    known, asked = embedded(network, p, support, query)
    read = feed_forward(network, p, "reader", torch.cat([known, support[1]], 2)).mean(1, keepdim=True)
    asked = torch.cat([asked, read.expand(-1, asked.shape[1], -1)], 2)
    return normal_losses(workload, feed_forward(network, p, "decoder", asked), query[1])


def anp_losses(workload, network, p, support, query):
    settings, heads = workload.settings, workload.settings["heads"]
    known, asked = embedded(network, p, support, query)
    values = feed_forward(network, p, "reader", torch.cat([known, support[1]], 2))
    values = stack(network, p, "blocks", settings["layers"], heads, values)
    read = attend(network, p, "cross", heads, asked, known, values)
    output = feed_forward(network, p, "decoder", torch.cat([asked, read], 2))
    return normal_losses(workload, output, query[1])


def tnp_losses(workload, network, p, support, query):
    settings = workload.settings
    known, asked = embedded(network, p, support, query)
    s = known.shape[1]
    known = torch.cat([known, support[1]], 2)
    asked = torch.cat([asked, torch.zeros_like(query[1])], 2)
    x = feed_forward(network, p, "embed", torch.cat([known, asked], 1))
    # All read the support alone.
    x = stack(network, p, "blocks", settings["layers"], settings["heads"], x, first=s)
    output = feed_forward(network, p, "decoder", network.layer_norm(p, "norm", x[:, s:]))
    return normal_losses(workload, output, query[1])


def in_context_losses(workload, network, p, support, query):
    settings = workload.settings
    known, asked = embedded(network, p, support, query)
    s = known.shape[1]
    known = torch.cat([known, support[1], torch.zeros_like(known[:, :, :1])], 2)
    asked = torch.cat([asked, torch.zeros_like(query[1]), torch.ones_like(asked[:, :, :1])], 2)
    x = network.linear(p, "token", torch.cat([known, asked], 1))
    x = stack(network, p, "blocks", settings["layers"], settings["heads"], x, first=s)
    answers = network.linear(p, "head", network.layer_norm(p, "norm", x[:, s:]))
    return (answers - query[1]).square().mean((1, 2))


def before(x, length, distance):
    """What was so many steps before each row of `x [n, rows, c]`: `length` steps, then rows that each are
    the step after the last of them."""
    ends = x.shape[1] - length
    steps = F.pad(x[:, :length], (0, 0, distance, 0))
    return torch.cat([steps[:, :length], steps[:, length : length + 1].expand(-1, ends, -1)], 1)


def snail_blocks(network, p, x, length):
    """The three attention blocks and the two temporal ones between them."""
    rows = torch.arange(x.shape[1], device=x.device)
    there = (rows <= rows[:, None]) & ((rows < length) | (rows == rows[:, None]))
    for number in range(3):
        if number > 0:
            name = f"temporal.{number - 1}.blocks"
            levels = sum(f"{name}.{level}.conv.before" in p for level in range(len(p)))
            for level in range(levels):
                conv = f"{name}.{level}.conv"
                seen = before(x, length, 1 << level) @ p[f"{conv}.before"]
                value, gate = (network.linear(p, f"{conv}.now", x) + seen).chunk(2, 2)
                x = torch.cat([x, value.tanh() * gate.sigmoid()], 2)
        query, key, value = (
            network.linear(p, f"attention.{number}.{part}", x) for part in ("query", "key", "value")
        )
        weights = attention_map(query[:, None], key[:, None], there)
        x = torch.cat([x, weights[:, 0] @ value], 2)
    return x


def snail_losses(workload, network, p, support, query):
    known, asked = embedded(network, p, support, query)
    (tasks, s, _), q = known.shape, asked.shape[1]
    known = torch.cat([known, support[1]], 2)
    asked = torch.cat([asked, torch.zeros_like(query[1])], 2)
    order = network.episode("support.order").long()[:, :, None]
    known = known.gather(1, order.expand(-1, -1, known.shape[2]))
    if network.shared:
        x = snail_blocks(network, p, torch.cat([known, asked], 1), s)[:, s:]
    else:
        # As most write it: a sequence for each query, with the support before it.
        known = known[:, None].expand(-1, q, -1, -1)
        x = torch.cat([known, asked[:, :, None]], 2).flatten(0, 1)
        x = snail_blocks(network, p, x, s + 1)[:, -1].unflatten(0, (tasks, q))
    return (network.linear(p, "head", x) - query[1]).square().mean((1, 2))


LOSSES = {
    "anp": anp_losses,
    "cnp": cnp_losses,
    "in_context": in_context_losses,
    "snail": snail_losses,
    "tnp": tnp_losses,
}
