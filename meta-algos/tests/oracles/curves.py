"""Writes `curves.json`, the training curves of `curves.rs`, by PyTorch 2.15 (pip install torch==2.15.0): every
reference of this folder that is made of tasks of 6 features is trained by PyTorch's Adam, in double precision, from
parameters and on tasks that the test computes too. The curve is the loss of the queries, in means of `WINDOW`
iterations.
"""

import json
import math
import pathlib

import torch

import learners

ITERATIONS, WINDOW, SEEDS, RATE = 200, 20, 3, 0.01
WAY, SHOT, QUERY, FEATURES, OUTPUTS, TASKS = 3, 2, 2, 6, 3, 2
MASK = 2**64 - 1


class Stream:
    """SplitMix64, and what is drawn from it by sums alone, so that both sides get the same bits."""

    def __init__(self, seed):
        self.state = seed & MASK

    def uniform(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) / 2**53

    def bell(self):
        """About normal: the sum of twelve uniform numbers, in steps of 2⁻¹⁰."""
        return math.floor((sum(self.uniform() for _ in range(12)) - 6.0) * 1024) / 1024


def parameters(shapes, seed):
    result = {}
    for name, shape in shapes.items():
        if name.endswith((".bias", ".beta")) or name in ("offset", "deviations"):
            number = lambda: 0.0
        elif name.endswith(".gamma") or name == "scale":
            number = lambda: 1.0
        elif name == "log_lambda":
            number = lambda: -2.0
        elif name.startswith("rates."):
            number = lambda: 0.1
        else:
            stream = Stream(seed * 1_000_003 + sum((i + 1) * b for i, b in enumerate(name.encode())))
            limit = math.sqrt(6 / sum(shape[-2:]))
            number = lambda: limit * (2 * stream.uniform() - 1)
        values = torch.tensor([number() for _ in range(math.prod(shape))])
        result[name] = values.reshape(shape).requires_grad_()
    return result


def classification(stream):
    """Classes that two features tell apart, and four do not."""
    centres = [[2 * stream.bell() for _ in range(2)] for _ in range(WAY)]

    def items(count):
        item = lambda centre: [c + 0.5 * stream.bell() for c in centre] + [2 * stream.bell() for _ in range(4)]
        rows = [item(centre) for centre in centres for _ in range(count)]
        return torch.tensor(rows), torch.arange(WAY).repeat_interleave(count)

    return items(SHOT), items(QUERY)


def regression(stream):
    """Linear functions of two features."""
    slopes = [[stream.bell() for _ in range(2)] for _ in range(OUTPUTS)]

    def items(count):
        x = [[stream.bell() for _ in range(FEATURES)] for _ in range(count)]
        y = [[a * row[0] + b * row[1] for a, b in slopes] for row in x]
        return torch.tensor(x), torch.tensor(y)

    return items(WAY * SHOT), items(WAY * QUERY)


def train(p, iteration):
    """The means of windows of losses. `iteration()` yields the losses of its tasks, and goes on after the step."""
    optimizer, losses = torch.optim.Adam(p.values(), lr=RATE), []
    for _ in range(ITERATIONS):
        for of_tasks in iteration():
            loss = torch.stack(of_tasks).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return [sum(losses[i : i + WINDOW]) / WINDOW for i in range(0, ITERATIONS, WINDOW)]


def curve(shapes, task_loss, regression_tasks, seed):
    p = parameters(shapes, seed)
    # What a learner carries from one iteration to the next beside its parameters: the mean over tasks.
    remember = getattr(task_loss, "remember", lambda p, support: {})
    stream = Stream(seed)

    def next_losses():
        of_tasks, seen = [], []
        for _ in range(TASKS):
            support, query = (regression if regression_tasks else classification)(stream)
            of_tasks.append(task_loss(p, support, query)[1])
            with torch.no_grad():
                seen.append(remember(p, support))
        yield of_tasks
        with torch.no_grad():
            for name in seen[0]:
                p[name].copy_(torch.stack([task[name] for task in seen]).mean(0))

    return train(p, next_losses)


def record(shapes, task_loss, regression=False, features=FEATURES):
    return [curve(shapes, task_loss, regression, seed) for seed in range(SEEDS)]


def of_process(shapes, network):
    def task_loss(p, support, query):
        mean, raw = network(p, support, query[0]).chunk(2, 1)
        normal = torch.distributions.Normal(mean, 0.1 + 0.9 * torch.nn.functional.softplus(raw))
        return mean, -normal.log_prob(query[1]).mean()

    return record(learners.NETWORK | shapes, task_loss, regression=True)


def pretrained(scale=None):
    """A classifier of all training classes, of items of support and query alike; with a scale, by cosines."""
    shapes = learners.NETWORK | {"classifier.weight": (learners.EMBEDDED, WAY), "classifier.bias": (1, WAY)}
    unit = lambda x, axis: x / ((x**2).sum(axis, keepdim=True) + 1e-12).sqrt()

    def task_loss(p, support, query):
        x, labels = learners.embed(p, torch.cat([support[0], query[0]])), torch.cat([support[1], query[1]])
        w = p["classifier.weight"]
        scores = scale * unit(x, 1) @ unit(w, 0) if scale else x @ w + p["classifier.bias"]
        return scores, torch.nn.functional.cross_entropy(scores, labels)

    return record(shapes, task_loss)


if __name__ == "__main__":
    # Before the others take it from there.
    learners.record = record
    import attention
    import language
    import memory
    import policies
    import processes

    processes.record = of_process
    curves = {}
    for references in [learners, memory, language, processes, attention, policies]:
        curves |= references.cases()
    curves |= {"baseline": pretrained(), "baseline_pp": pretrained(10.0)}
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in curves.items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
