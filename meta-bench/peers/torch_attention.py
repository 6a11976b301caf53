"""Attention, blocks of transformers, and the encoders that are made of them.

Names of parameters are whole: those of an encoder begin with `network.prefix`.
"""

import torch
import torch.nn.functional as F


def attend(network, p, name, heads, queries, memory, values=None, there=None):
    """Multi-head attention of `queries [n, l, d]` to `memory [n, m, d]`, and to `values` in its place where
    they are given; `there` is true where something is read, in a shape that broadcasts to the map's."""

    def projected(part, x):
        return network.linear(p, f"{name}.{part}", x).unflatten(2, (heads, -1)).transpose(1, 2)

    values = memory if values is None else values
    query, key, value = (
        projected(part, x) for part, x in (("query", queries), ("key", memory), ("value", values))
    )
    read = read_by(network, query, key, value, there)
    return network.linear(p, f"{name}.output", read.transpose(1, 2).flatten(2))


def read_by(network, query, key, value, there=None):
    """`[n, heads, l, d]`, `[n, heads, m, d]`, `[n, heads, m, e]` to `[n, heads, l, e]`."""
    if network.fused:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=there)
    return attention_map(query, key, there) @ value


def attention_map(query, key, there=None):
    """Written out: the fused kernels of scaled_dot_product_attention are not twice differentiable."""
    scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
    if there is not None:
        scores = scores.masked_fill(~there, -torch.inf)
    return scores.softmax(-1)


def block(network, p, name, heads, x, memory=None, first=None):
    """A block, normalised first: `x [n, l, d]` reads itself, its `first` tokens alone, or a memory."""
    normalised = network.layer_norm(p, f"{name}.attention_norm", x)
    if memory is None:
        memory = normalised[:, :first]
    else:
        memory = network.layer_norm(p, f"{name}.attention_norm", memory)
    x = x + attend(network, p, f"{name}.attention", heads, normalised, memory)
    normalised = network.layer_norm(p, f"{name}.feed_forward_norm", x)
    hidden = F.relu(network.linear(p, f"{name}.expand", normalised))
    return x + network.linear(p, f"{name}.contract", hidden)


def stack(network, p, name, count, heads, x, first=None):
    """Blocks `name.0`, `name.1` and so on."""
    for layer in range(count):
        x = block(network, p, f"{name}.{layer}", heads, x, first=first)
    return x


def rows(network, x):
    """Items `[b, f]` as their rows, `[b, l, c]`."""
    item = network.workload.item
    return x.reshape(-1, item["height"], item["width"] * item["channels"])


def patches(network, x):
    """Items `[b, f]` as squares of pixels, `[b, l, c]`."""
    item, patch = network.workload.item, network.workload.encoder_settings["patch"]
    high, wide = item["height"] // patch, item["width"] // patch
    x = x.reshape(-1, high, patch, wide, patch * item["channels"])
    return x.transpose(2, 3).reshape(len(x), high * wide, -1)


def sinusoidal(length, d, like):
    """Sines and cosines of the positions, in turns."""
    pairs = torch.arange(0, d, 2, device=like.device, dtype=torch.float64)
    angles = torch.arange(length, device=like.device)[:, None] * 10_000 ** (-pairs / d)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1).to(like.dtype)


def tokens(network, p, x, positions):
    """Mean over tokens `x [b, l, c]` that attended to each other."""
    settings, prefix = network.workload.encoder_settings, network.prefix
    x = network.linear(p, f"{prefix}embedding", x) + positions
    x = stack(network, p, f"{prefix}blocks", settings["layers"], settings["heads"], x)
    return network.layer_norm(p, f"{prefix}norm", x).mean(1)


def attention(network, p, x):
    x = patches(network, x)
    positions = p[f"{network.prefix}positions"]
    return tokens(network, p, x, positions.reshape(x.shape[1], -1))


def transformer(network, p, x):
    x = rows(network, x)
    if network.positions is None:
        network.positions = sinusoidal(x.shape[1], network.workload.encoder_settings["width"], x)
    return tokens(network, p, x, network.positions)


def set_transformer(network, p, x):
    settings, prefix = network.workload.encoder_settings, network.prefix
    heads, width = settings["heads"], settings["width"]
    x = network.linear(p, f"{prefix}embedding", rows(network, x))
    for layer in range(settings["layers"]):
        name = f"{prefix}layers.{layer}"
        points = p[f"{name}.inducing.points"].reshape(1, -1, width).expand(len(x), -1, -1)
        summary = block(network, p, f"{name}.inducing.block", heads, points, memory=x)
        x = block(network, p, f"{name}.block", heads, x, memory=summary)
    seed = p[f"{prefix}seed"].reshape(1, 1, width).expand(len(x), -1, -1)
    pooled = block(network, p, f"{prefix}pool", heads, seed, memory=x)
    return network.layer_norm(p, f"{prefix}norm", pooled)[:, 0]
