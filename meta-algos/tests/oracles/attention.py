"""Writes `attention.json`, the numbers of `attention.rs`, by PyTorch 2.15.0 (pip install torch==2.15.0): answers,
losses and meta-gradients of learners whose support is read by attention, in double precision, from PyTorch's own
attention and layer normalisation.
"""

import json
import math
import pathlib

import torch
from torch.nn.functional import cross_entropy, layer_norm, one_hot

from learners import NETWORK, OUTPUTS, WAY, distances, embed, gradient, layer, linear, means, network, record
from processes import HEADS, HIDDEN, WIDTH, add_feed_forward, attention, block, norm, normalise, pre_norm_block, split


def read_twice(p, path, queries, memory, uniform=False):
    """`attend`, written out, since PyTorch's own attention has no second derivative on a CPU."""
    q, k = split(p, f"{path}.query", queries), split(p, f"{path}.key", memory)
    v = split(p, f"{path}.value", memory)
    scores = q @ k.transpose(1, 2) / math.sqrt(WIDTH // HEADS)
    weights = (0 * scores if uniform else scores).softmax(2)
    return linear(p, f"{path}.output", (weights @ v).transpose(0, 1).flatten(1))


def in_context(uniform=False):
    shapes = NETWORK | layer("token", 4 + OUTPUTS + 1, WIDTH) | block("blocks.0") | block("blocks.1")
    shapes |= norm("norm") | layer("head", WIDTH, OUTPUTS)

    def task_loss(p, support, query):
        known = embed(p, support[0])
        known = torch.cat([known, one_hot(support[1], WAY).double(), torch.zeros(len(known), 1)], 1)
        answers = []
        for asked in embed(p, query[0]):
            last = torch.cat([asked, torch.zeros(OUTPUTS), torch.ones(1)])[None]
            tokens = linear(p, "token", torch.cat([known, last]))
            for index in range(2):
                tokens = pre_norm_block(p, f"blocks.{index}", tokens, tokens[: len(known)], uniform)
            answers.append(linear(p, "head", normalise(p, "norm", tokens[-1:]))[0])
        answer = torch.stack(answers)
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def meta_attention(steps, temperature):
    adapted = attention("readout.attention")

    def task_loss(p, support, query):
        items = embed(p, support[0])

        def answers(fast, asked):
            read = lambda x: x + read_twice(fast, "readout.attention", x, items)
            return -distances(read(asked), means(read(items), support[1])) / temperature

        fast = {name: p[name] for name in adapted}
        for _ in range(steps):
            g = gradient(cross_entropy(answers(fast, items), support[1]), fast, fast)
            fast = {name: fast[name] - 0.1 * g[name] for name in fast}
        answer = answers(fast, embed(p, query[0]))
        return answer, cross_entropy(answer, query[1])

    return record(NETWORK | adapted, task_loss)


def task_transformer(steps):
    shapes = NETWORK | layer("token", 8, WIDTH) | layer("class", 4, WIDTH) | layer("output", WIDTH, 4)
    shapes |= block("blocks.0") | block("blocks.1") | block("decoder.0")

    def task_loss(p, support, query):
        items, labels = embed(p, support[0]), support[1]
        classes = means(items, labels)
        read = linear(p, "token", torch.cat([items, classes[labels]], 1))
        for index in range(2):
            read = pre_norm_block(p, f"blocks.{index}", read, read, uniform=False)
        decoded = pre_norm_block(p, "decoder.0", linear(p, "class", classes), read, uniform=False)
        written = classes + linear(p, "output", decoded)
        head = {"weight": 2 * written.T, "bias": -(written**2).sum(1)}
        scores = lambda x: x @ head["weight"] + head["bias"]
        for _ in range(steps):
            g = torch.autograd.grad(cross_entropy(scores(items), labels), list(head.values()), create_graph=True)
            head = {name: head[name] - 0.1 * slope for name, slope in zip(head, g)}
        answer = scores(embed(p, query[0]))
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def tokens(p, path, support):
    """The support with the means of its classes beside it."""
    items, labels = embed(p, support[0]), support[1]
    return linear(p, path, torch.cat([items, means(items, labels)[labels]], 1)).relu()


def modulator(path, width):
    return layer(f"{path}.hidden", width, 5) | layer(f"{path}.output", 5, 2 * 5 + 2 * 4)


def modulated(p, path, z, support, query, steps):
    """FiLM of both layers of the encoder by `z`, and a head of class means behind the modulated encoder."""
    labels = support[1]
    generated = linear(p, f"{path}.output", linear(p, f"{path}.hidden", z).relu())
    fast = {name: p[name] for name in NETWORK}
    parts = generated.split([5, 5, 4, 4], 1)
    for index, (scale, shift) in enumerate([parts[:2], parts[2:]]):
        own = f"encoder.layers.{index}"
        fast[f"{own}.weight"] = (1 + scale) * fast[f"{own}.weight"]
        fast[f"{own}.bias"] = (1 + scale) * fast[f"{own}.bias"] + shift
    classes = means(embed(fast, support[0]), labels)
    fast |= {"head.weight": 2 * classes.T, "head.bias": -(classes**2).sum(1)[None]}
    # From here on the head is a parameter like the others, whatever it was made of.
    fast = {name: value.clone() for name, value in fast.items()}
    for _ in range(steps):
        g = gradient(cross_entropy(network(fast, support[0]), labels), fast, fast)
        fast = {name: fast[name] - 0.1 * g[name] for name in fast}
    answer = network(fast, query[0])
    return answer, cross_entropy(answer, query[1])


def task_attention(steps, seeds=2):
    width = seeds * WIDTH
    shapes = NETWORK | layer("reader.token", 8, WIDTH) | {"reader.seeds": (1, width)}
    shapes |= attention("reader.attention") | {"reader.norm.gamma": (1, width), "reader.norm.beta": (1, width)}
    shapes |= modulator("reader.modulator", width)

    def task_loss(p, support, query):
        read = tokens(p, "reader.token", support)
        read = read_twice(p, "reader.attention", p["reader.seeds"].reshape(seeds, WIDTH), read)
        gamma, beta = p["reader.norm.gamma"][0], p["reader.norm.beta"][0]
        z = layer_norm(read.reshape(1, width), (width,), gamma, beta, eps=1e-5)
        return modulated(p, "reader.modulator", z, support, query, steps)

    return record(shapes, task_loss)


def task_relations(steps, uniform=False, slots=3, rate=0.1):
    """The memory is no parameter: tasks move its slots, in proportion to how near they are."""
    memory = "relations.running_memory"
    shapes = NETWORK | layer("relations.token", 8, WIDTH) | norm("relations.representation_norm")
    shapes |= {memory: (1, slots, WIDTH)} | attention("relations.attention") | norm("relations.norm")
    shapes |= modulator("relations.modulator", WIDTH)

    def represent(p, support):
        mean = tokens(p, "relations.token", support).mean(0, keepdim=True)
        return normalise(p, "relations.representation_norm", mean)

    def task_loss(p, support, query):
        task = represent(p, support)
        read = read_twice(p, "relations.attention", task, p[memory][0].detach(), uniform)
        z = normalise(p, "relations.norm", task + read)
        return modulated(p, "relations.modulator", z, support, query, steps)

    def remember(p, support):
        task, before = represent(p, support), p[memory][0]
        share = (-((task - before) ** 2).sum(1) / (2 * math.sqrt(WIDTH))).softmax(0)
        return {memory: (before + rate * share[:, None] * (task - before))[None]}

    task_loss.remember = remember
    return record(shapes, task_loss)


def pfn_layer(path):
    shapes = attention(f"{path}.features") | attention(f"{path}.rows") | layer(f"{path}.class", WIDTH, WIDTH)
    for part in ["feature", "row", "class", "feed_forward"]:
        shapes |= norm(f"{path}.{part}_norm")
    return shapes | layer(f"{path}.expand", WIDTH, HIDDEN) | layer(f"{path}.contract", HIDDEN, WIDTH)


def pfn(uniform=False, layers=2):
    """Cells attend to their row, then to the support in their column; the head is attention to the support."""
    shapes = NETWORK | layer("cell", 2, WIDTH) | layer("target", 2, WIDTH) | norm("norm")
    shapes |= layer("query", WIDTH, WIDTH) | layer("key", WIDTH, WIDTH)
    for number in range(layers):
        shapes |= pfn_layer(f"layers.{number}")

    def cells(p, support, query):
        """`[rows, columns, d]`, and which columns differ within the support."""
        known = embed(p, support[0])
        mean, variance = known.mean(0), known.var(0, unbiased=False)
        varies = variance > 1e-12 * mean**2 + 1e-30
        all_rows = torch.cat([known, embed(p, query[0])])
        z = ((all_rows - mean) / torch.where(varies, variance, 1.0).sqrt() * varies).clamp(-8, 8)
        u = linear(p, "cell", torch.stack([z, torch.zeros_like(z)], 2))
        is_known = (torch.arange(len(z)) < len(known)).double()
        target = linear(p, "target", torch.stack([torch.zeros(len(z)), is_known], 1))
        return torch.cat([u, target[:, None]], 1), torch.cat([varies, torch.tensor([True])])

    def task_loss(p, support, query):
        labels, s = support[1], len(support[1])
        u, columns = cells(p, support, query)
        for number in range(layers):
            path = f"layers.{number}"
            y = normalise(p, f"{path}.feature_norm", u)
            u = u + torch.stack([read_twice(p, f"{path}.features", row, row[columns], uniform) for row in y])
            y = normalise(p, f"{path}.row_norm", u).transpose(0, 1)
            read = [read_twice(p, f"{path}.rows", column, column[:s], uniform) for column in y]
            u = u + torch.stack(read, 1)
            told = linear(p, f"{path}.class", means(normalise(p, f"{path}.class_norm", u[:s]), labels))[labels]
            u = add_feed_forward(p, path, torch.cat([u[:s] + told, u[s:]]))
        rows = normalise(p, "norm", u[:, -1])
        scores = split(p, "query", rows[s:]) @ split(p, "key", rows[:s]).transpose(1, 2)
        weights = (scores / math.sqrt(WIDTH // HEADS)).softmax(2).mean(0)
        answer = (weights @ one_hot(labels, WAY).double() + 1e-6).log()
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def cases():
    return {
        "in_context": in_context(),
        "in_context, uniform": in_context(uniform=True),
        "meta_attention": meta_attention(1, 4.0),
        "meta_attention, 3 steps": meta_attention(3, 1.0),
        "pfn": pfn(),
        "pfn, uniform": pfn(uniform=True),
        "task_attention": task_attention(0),
        "task_attention, 2 steps": task_attention(2),
        "task_relations": task_relations(0),
        "task_relations, 2 steps": task_relations(2),
        "task_relations, uniform": task_relations(0, uniform=True),
        "task_transformer": task_transformer(0),
        "task_transformer, 2 steps": task_transformer(2),
    }


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases().items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
