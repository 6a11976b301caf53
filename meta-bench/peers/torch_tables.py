"""A prior-fitted network in the manner of nanoTabPFN: cells of a table attend to their row, and to the cells
of their column in the support. All tables at once; what they do not have is masked."""

import torch
import torch.nn.functional as F

from torch_attention import attend, attention_map


def masks(network, part, x):
    """Which items are there, `[t, b]`, and which of their numbers, `[t, b, f]`, as numbers."""
    episodes = network.workload.episodes
    there = network.episode(f"{part}.there") if f"{part}.there" in episodes else torch.ones_like(x[:, :, 0])
    numbers = there[:, :, None].expand_as(x)
    if f"{part}.numbers" in episodes:
        numbers = numbers * network.episode(f"{part}.numbers")
    return there, numbers


def standardised(support, query, numbers):
    """All rows in units of the columns of the support, and which columns say something, `[t, f]`."""
    count = numbers.sum(1, keepdim=True).clamp_min(1)
    mean = (support * numbers).sum(1, keepdim=True) / count
    variance = ((support - mean).square() * numbers).sum(1, keepdim=True) / count
    varies = variance > 1e-12 * mean.square() + 1e-30
    deviation = torch.where(varies, variance, torch.ones_like(variance)).sqrt()
    rows = (torch.cat([support, query], 1) - mean) / deviation * varies
    return rows.clamp(-8, 8), varies[:, 0]


def layer(network, p, name, heads, x, shares, classes, there, columns):
    """`x [t, r, c, d]` to the same."""
    tasks, rows, count, _ = x.shape
    s = there.shape[1]
    normalised = network.layer_norm(p, f"{name}.feature_norm", x).flatten(0, 1)
    of_rows = columns.repeat_interleave(rows, 0)[:, None, None]
    read = attend(network, p, f"{name}.features", heads, normalised, normalised, there=of_rows)
    x = x + read.unflatten(0, (tasks, rows))
    normalised = network.layer_norm(p, f"{name}.row_norm", x).transpose(1, 2).flatten(0, 1)
    of_columns = there.repeat_interleave(count, 0)[:, None, None]
    read = attend(network, p, f"{name}.rows", heads, normalised, normalised[:, :s], there=of_columns)
    x = x + read.unflatten(0, (tasks, count)).transpose(1, 2)
    # The support rows of a class exchange their mean.
    normalised = network.layer_norm(p, f"{name}.class_norm", x[:, :s]).flatten(2)
    means = (shares.transpose(1, 2) @ normalised).unflatten(2, (count, -1))
    written = classes @ network.linear(p, f"{name}.class", means).flatten(2)
    x = x + F.pad(written, (0, 0, 0, rows - s)).unflatten(2, (count, -1))
    normalised = network.layer_norm(p, f"{name}.feed_forward_norm", x)
    hidden = F.relu(network.linear(p, f"{name}.expand", normalised))
    return x + network.linear(p, f"{name}.contract", hidden)


def pfn_scores(workload, network, p, support, query):
    """Logarithms of the probabilities of the classes, `[t, q, n]`, and which queries are there."""
    settings, heads = workload.settings, workload.settings["heads"]
    (xs, ys), (xq, _) = support, query
    s = xs.shape[1]
    there, numbers = masks(network, "support", xs)
    asked, of_query = masks(network, "query", xq)
    rows, varies = standardised(xs, xq, numbers)
    known = torch.cat([numbers, of_query], 1)
    x = network.linear(p, "cell", torch.stack([rows * known, 1 - known], 3))
    labelled = (torch.arange(rows.shape[1], device=x.device) < s).to(x.dtype)
    target = torch.stack([torch.zeros_like(labelled), labelled], 1).expand(len(x), -1, -1)
    x = torch.cat([x, network.linear(p, "target", target)[:, :, None]], 2)
    classes = F.one_hot(ys, workload.way).to(x.dtype) * there[:, :, None]
    counts = classes.sum(1, keepdim=True)
    shares = classes / counts.clamp_min(1)
    columns, there = F.pad(varies, (0, 1), value=True), there > 0
    for number in range(settings["layers"]):
        x = layer(network, p, f"layers.{number}", heads, x, shares, classes, there, columns)
    read = network.layer_norm(p, "norm", x[:, :, -1])

    def projected(name, x):
        return network.linear(p, name, x).unflatten(2, (heads, -1)).transpose(1, 2)

    weights = attention_map(projected("query", read[:, s:]), projected("key", read[:, :s]), there[:, None, None])
    scores = (weights.mean(1) @ classes + 1e-6).log().masked_fill(counts == 0, -torch.inf)
    return scores, asked


def pfn_losses(workload, network, p, support, query):
    """Losses of all tasks."""
    scores, asked = pfn_scores(workload, network, p, support, query)
    targets = torch.where(asked > 0, query[1], -100)
    losses = F.cross_entropy(scores.transpose(1, 2), targets, ignore_index=-100, reduction="none")
    return losses.sum(1) / asked.sum(1).clamp_min(1)


LOSSES = {"pfn": pfn_losses}
PREDICTIONS = {"pfn": lambda *given: pfn_scores(*given)[0]}
