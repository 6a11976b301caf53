"""Writes `language.json`, the numbers of `language.rs`, by PyTorch 2.9.0 (pip install torch==2.9.0): answers, losses
and meta-gradients of learners that were made for texts, one task, one query and one class after the other, in
double precision. An item of 6 features is 6 words of one number each.
"""

import json
import pathlib

import torch
from torch import sigmoid
from torch.nn.functional import cross_entropy, mse_loss, one_hot, softplus

from learners import FEATURES, NETWORK, OUTPUTS, WAY, cell, cell_shapes, embed, gradient, layer, linear, record


def ridge(x, y, penalty):
    return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)


def signatures(hidden, uniform=False):
    shapes = NETWORK | cell_shapes("reader.forwards", 2, hidden) | cell_shapes("reader.backwards", 2, hidden)
    shapes |= {"query": (2 * hidden, 1), "log_lambda": (1, 1), "scale": (1, 1), "offset": (1, 1)}

    def states(p, path, read):
        h, c, seen = torch.zeros(1, hidden), torch.zeros(1, hidden), []
        for step in read:
            h, c = cell(p, path, step[None], h, c)
            seen.append(h[0])
        return torch.stack(seen)

    def task_loss(p, support, query):
        labels = one_hot(support[1]).double()
        # The mean of the words of a text, one number, against its label.
        word = ridge(support[0].mean(1, keepdim=True), labels, 1.0)

        def text(words):
            chances = (words[:, None] @ word).softmax(1)
            entropy = -(chances * chances.log()).sum(1)
            read = torch.stack([torch.ones(FEATURES), 1 / entropy], 1)
            both = [states(p, "reader.forwards", read), states(p, "reader.backwards", read.flip(0)).flip(0)]
            weights = (torch.cat(both, 1) @ p["query"])[:, 0].softmax(0)
            if uniform:
                weights = torch.full((FEATURES,), 1 / FEATURES)
            return FEATURES * weights * words

        embed_texts = lambda items: embed(p, torch.stack([text(words) for words in items]))
        phi = embed_texts(support[0])
        head = ridge(phi, labels, len(phi) * p["log_lambda"].exp())
        answer = p["scale"] * (embed_texts(query[0]) @ head) + p["offset"]
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def hatt(hidden):
    shapes = NETWORK | layer("instance", 4, 4) | layer("first", 2, hidden)
    shapes |= layer("second", hidden, hidden) | layer("third", hidden, 1)

    def task_loss(p, support, query):
        items, answers = embed(p, support[0]), []
        for asked in embed(p, query[0]):
            scores = []
            for n in range(WAY):
                own = items[support[1] == n]
                e = torch.tanh(linear(p, "instance", own) * linear(p, "instance", asked)).sum(1)
                prototype = e.softmax(0) @ own
                distance = 0.0
                for d in range(4):
                    seen = torch.stack([own[:, d], own[:, d].mean().expand(len(own))], 1)
                    seen = linear(p, "second", linear(p, "first", seen).relu()).relu().mean(0)
                    distance = distance + softplus(linear(p, "third", seen))[0, 0] * (asked[d] - prototype[d]) ** 2
                scores.append(-distance)
            answers.append(torch.stack(scores))
        answer = torch.stack(answers)
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def squash(x):
    if not x.any():
        return 0 * x  # Its derivative there is 0; that of a length is not a number.
    length = x.norm()
    return length**2 / (1 + length**2) * x / length


def induction(slices, iterations):
    shapes = NETWORK | layer("transform", 4, 4) | {"relation": (4, slices * 4)} | layer("output", slices, 1)

    def task_loss(p, support, query):
        items = [squash(x) for x in linear(p, "transform", embed(p, support[0]))]
        classes = []
        for n in range(WAY):
            own = torch.stack([x for x, label in zip(items, support[1]) if label == n])
            b = torch.zeros(len(own))
            for _ in range(iterations):
                c = squash(b.softmax(0) @ own)
                b = b + own @ c
            classes.append(c)
        slice_of = p["relation"].reshape(4, slices, 4)
        answer = torch.stack([
            torch.stack([
                linear(p, "output", torch.einsum("i,ikj,j->k", c, slice_of, x).relu())[0, 0] for c in classes
            ])
            for x in embed(p, query[0])
        ])
        return answer, mse_loss(sigmoid(answer), one_hot(query[1]).double())

    return record(shapes, task_loss)


def ataml(steps, exact=True):
    adapted = {"readout.query": (2, 1)} | layer("readout.head", 2, OUTPUTS)

    def answers(p, fast, items):
        found = []
        for tokens in embed(p, items).reshape(len(items), 2, 2):
            there = tokens[tokens.abs().sum(1) > 0]
            read = (there @ fast["readout.query"])[:, 0].softmax(0) @ there
            found.append(linear(fast, "readout.head", read)[0])
        return torch.stack(found)

    def task_loss(p, support, query):
        fast = {name: p[name] for name in adapted}
        for _ in range(steps):
            g = gradient(cross_entropy(answers(p, fast, support[0]), support[1]), fast, fast, exact)
            if not exact:
                g = {name: value.detach() for name, value in g.items()}
            fast = {name: fast[name] - 0.1 * g[name] for name in fast}
        answer = answers(p, fast, query[0])
        return answer, cross_entropy(answer, query[1])

    return record(NETWORK | adapted, task_loss)


def cases():
    return {
        "distributional_signatures": signatures(2),
        "distributional_signatures, uniform": signatures(2, uniform=True),
        "hatt": hatt(3),
        "induction_net": induction(3, 3),
        "induction_net, 1 round": induction(2, 1),
        "ataml": ataml(2),
        "ataml, first order": ataml(2, exact=False),
    }


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases().items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
