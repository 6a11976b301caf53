"""Writes `learners.json`, the numbers of `meta-algos/tests/oracles/mod.rs`, by PyTorch 2.15.0
(pip install torch==2.15.0): answers, losses and meta-gradients of learners, one task after the other,
in double precision. Parameters and items are sines of their index, which the test computes too.

Shapes are those of the Rust side without the task axis; LSTM gates are in its order, i f o g.
"""

import json
import math
import pathlib

import torch
from torch import sigmoid
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    layer_norm,
    mse_loss,
    one_hot,
    scaled_dot_product_attention,
    softmax,
)

torch.set_default_dtype(torch.float64)
TASKS, WAY, SHOT, QUERY, FEATURES, OUTPUTS = 2, 3, 2, 2, 6, 3
EMBEDDED = 4
NETWORK = {
    "encoder.layers.0.weight": (FEATURES, 5),
    "encoder.layers.0.bias": (1, 5),
    "encoder.layers.1.weight": (5, EMBEDDED),
    "encoder.layers.1.bias": (1, EMBEDDED),
}
HEAD = {"head.weight": (EMBEDDED, OUTPUTS), "head.bias": (1, OUTPUTS)}


def sines(count, start, scale):
    return torch.tensor([scale * math.sin(start + 0.7 * index) for index in range(count)])


def parameters(shapes):
    """A value for every scalar, by the name of its tensor and its index."""
    result = {}
    for name, shape in shapes.items():
        values = sines(math.prod(shape), sum(name.encode()), 0.4)
        if name.startswith("rates."):
            values = 0.1 + 0.1 * values
        result[name] = values.reshape(shape).requires_grad_()
    return result


def items(per_class, start, features=FEATURES):
    """Inputs of every task `[t, b, f]`, labels `[b]`, regression targets `[t, b, 3]`."""
    count = WAY * per_class
    inputs = sines(TASKS * count * features, start, 1.5).reshape(TASKS, count, features)
    targets = sines(TASKS * count * OUTPUTS, start + 0.3, 1.0).reshape(TASKS, count, OUTPUTS)
    return inputs, torch.arange(WAY).repeat_interleave(per_class), targets


def embed(w, x):
    for layer in range(2):
        x = (x @ w[f"encoder.layers.{layer}.weight"] + w[f"encoder.layers.{layer}.bias"]).relu()
    return x


def layer(path, inputs, outputs):
    return {f"{path}.weight": (inputs, outputs), f"{path}.bias": (1, outputs)}


def linear(p, path, x):
    return x @ p[f"{path}.weight"] + p[f"{path}.bias"]


def means(x, labels):
    return torch.stack([x[labels == n].mean(0) for n in range(WAY)])


def distances(queries, classes):
    return ((queries[:, None] - classes) ** 2).sum(2)


def network(w, x):
    return embed(w, x) @ w["head.weight"] + w["head.bias"]


def gradient(loss, w, names, exact=True):
    names = list(names)
    found = torch.autograd.grad(loss, [w[name] for name in names], create_graph=exact)
    return dict(zip(names, found))


def record(shapes, task_loss, regression=False, features=FEATURES):
    """The numbers of a learner; `task_loss` gives answers and loss of one task. Buffers are no parameters."""
    p = parameters(shapes)
    learned = {name: value for name, value in p.items() if ".running_" not in name}
    (sx, sl, st), (qx, ql, qt) = items(SHOT, 0.4, features), items(QUERY, 1.1, features)
    answers, losses = [], []
    for t in range(TASKS):
        support, query = (sx[t], st[t] if regression else sl), (qx[t], qt[t] if regression else ql)
        answer, loss = task_loss(p, support, query)
        answers.append(answer)
        losses.append(loss)
    loss = torch.stack(losses).mean()
    gradients = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
    gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(learned.values(), gradients)]
    return {
        "answers": torch.stack(answers).flatten().tolist(),
        "losses": [loss.item() for loss in losses],
        "gradients": {name: g.flatten().tolist() for name, g in zip(learned, gradients)},
    }


def descent(steps, rate, exact=True, adapts=lambda name: True, weights=None, criterion=cross_entropy):
    """Gradient steps on the support; `rate(p, step, name)`; `weights` of the losses after each."""

    def task_loss(p, support, query):
        fast = {name: p[name] for name in NETWORK | HEAD}
        adapted = [name for name in fast if adapts(name)]
        total = 0.0
        for step in range(steps):
            g = gradient(criterion(network(fast, support[0]), support[1]), fast, adapted, exact)
            if not exact:
                g = {name: value.detach() for name, value in g.items()}
            fast = fast | {name: fast[name] - rate(p, step, name) * g[name] for name in adapted}
            answer = network(fast, query[0])
            weight = weights[step] if weights else float(step == steps - 1)
            total = total + weight * criterion(answer, query[1])
        return answer, total

    return task_loss


def cell(w, path, x, h, c):
    """PyTorch's own cell, whose blocks are i f g o."""

    def reordered(name):
        i, f, o, g = w[f"{path}.{name}"].chunk(4, 1)
        return torch.cat([i, f, g, o], 1).T

    width = h.shape[1]
    bias = reordered("input.bias").squeeze(1)
    return torch.lstm_cell(
        x, (h, c), reordered("input.weight"), reordered("recurrent"), bias, torch.zeros(4 * width)
    )


def cell_shapes(path, inputs, width):
    return {
        f"{path}.input.weight": (inputs, 4 * width),
        f"{path}.input.bias": (1, 4 * width),
        f"{path}.recurrent": (width, 4 * width),
    }


def meta_lstm(steps, hidden, exact):
    shapes = NETWORK | HEAD | cell_shapes("optimizer.memory", 4, hidden)
    for gate in ["forget", "input"]:
        shapes |= {f"optimizer.{gate}.weight": (hidden + 2, 1), f"optimizer.{gate}.bias": (1, 1)}

    def preprocess(x):
        large = x.abs() >= math.exp(-10)
        scale = torch.where(large, torch.where(large, x, 1.0).abs().log() / 10, -1.0)
        return torch.stack([scale, torch.where(large, x.sign(), math.exp(10) * x)], -1)

    def task_loss(p, support, query):
        fast = {name: p[name] for name in NETWORK | HEAD}
        n = sum(value.numel() for value in fast.values())
        h, c, f, i = torch.zeros(n, hidden), torch.zeros(n, hidden), torch.zeros(n, 1), torch.zeros(n, 1)
        for _ in range(steps):
            loss = cross_entropy(network(fast, support[0]), support[1])
            g = torch.cat([g.flatten() for g in gradient(loss, fast, fast, exact).values()])
            if not exact:
                g, loss = g.detach(), loss.detach()
            theta = torch.cat([value.flatten() for value in fast.values()])
            seen = torch.cat([preprocess(g), preprocess(loss).expand(n, 2)], 1)
            h, c = cell(p, "optimizer.memory", seen, h, c)

            def gate(name, last):
                known = torch.cat([h, theta[:, None], last], 1)
                return sigmoid(known @ p[f"optimizer.{name}.weight"] + p[f"optimizer.{name}.bias"])

            f, i = gate("forget", f), gate("input", i)
            theta = f[:, 0] * theta - i[:, 0] * g
            parts = theta.split([value.numel() for value in fast.values()])
            fast = {name: part.reshape(fast[name].shape) for name, part in zip(fast, parts)}
        answer = network(fast, query[0])
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def matching(temperature, reads=None):
    shapes = dict(NETWORK)
    if reads:
        for direction in ["forwards", "backwards"]:
            shapes |= cell_shapes(f"context.support.{direction}", 4, 4)
        shapes |= cell_shapes("context.query", 8, 4)

    def direction(p, path, sequence):
        h, c, seen = torch.zeros(1, 4), torch.zeros(1, 4), []
        for x in sequence:
            h, c = cell(p, path, x[None], h, c)
            seen.append(h[0])
        return torch.stack(seen)

    def task_loss(p, support, query):
        g, f = embed(p, support[0]), embed(p, query[0])
        if reads:
            forwards = direction(p, "context.support.forwards", g)
            g = forwards + direction(p, "context.support.backwards", g.flip(0)).flip(0) + g
            h = r = c = torch.zeros_like(f)
            for _ in range(reads):
                h, c = cell(p, "context.query", torch.cat([f, r], 1), h, c)
                h = h + f
                r = softmax(h @ g.T, 1) @ g
            f = h
        attention = softmax(temperature * cosine_similarity(f[:, None], g[None], 2), 1)
        answer = (attention @ one_hot(support[1]).double()).log()
        return answer, -answer.gather(1, query[1][:, None]).mean()

    return record(shapes, task_loss)


def relation(hidden):
    shapes = NETWORK | {
        "relation.class": (4, hidden),
        "relation.query.weight": (4, hidden),
        "relation.query.bias": (1, hidden),
        "relation.hidden.weight": (hidden, hidden),
        "relation.hidden.bias": (1, hidden),
        "relation.output.weight": (hidden, 1),
        "relation.output.bias": (1, 1),
    }

    def task_loss(p, support, query):
        classes = one_hot(support[1]).double().T @ embed(p, support[0])
        queries = embed(p, query[0])
        pairs = torch.cat([classes.expand(len(queries), -1, -1), queries[:, None].expand(-1, WAY, -1)], 2)
        first = torch.cat([p["relation.class"], p["relation.query.weight"]])
        x = (pairs @ first + p["relation.query.bias"]).relu()
        x = (x @ p["relation.hidden.weight"] + p["relation.hidden.bias"]).relu()
        answer = (x @ p["relation.output.weight"] + p["relation.output.bias"])[..., 0]
        return answer, mse_loss(sigmoid(answer), one_hot(query[1]).double())

    return record(shapes, task_loss)


def protonet():
    """Its parameters are those of the encoder, under their own names."""
    shapes = {name.removeprefix("encoder."): shape for name, shape in NETWORK.items()}

    def task_loss(own, support, query):
        p = {f"encoder.{name}": value for name, value in own.items()}
        classes = means(embed(p, support[0]), support[1])
        answer = -distances(embed(p, query[0]), classes)
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def feat(temperature):
    parts = ["query", "key", "value", "output"]
    shapes = NETWORK | {"norm.gamma": (1, EMBEDDED), "norm.beta": (1, EMBEDDED)}
    for part in parts:
        shapes |= layer(f"attention.{part}", EMBEDDED, EMBEDDED)

    def task_loss(p, support, query):
        classes = means(embed(p, support[0]), support[1])
        q, k, v = (linear(p, f"attention.{part}", classes)[None] for part in parts[:3])
        read = linear(p, "attention.output", scaled_dot_product_attention(q, k, v)[0])
        adapted = layer_norm(classes + read, (EMBEDDED,), p["norm.gamma"][0], p["norm.beta"][0], eps=1e-5)
        answer = -distances(embed(p, query[0]), adapted) / temperature
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def multimodal(uniform=False):
    """The last two features describe an item; queries are seen only (Xing et al. 2019, equations 4 and 6)."""
    own = {"description": (2, 3), "embedding": (3, 4), "query": (4, 2), "key": (4, 2)}
    shapes = dict(NETWORK)
    for part, shape in own.items():
        shapes |= {f"{part}.weight": shape, f"{part}.bias": (1, shape[1])}

    def task_loss(p, support, query):
        linear = lambda part, x: x @ p[f"{part}.weight"] + p[f"{part}.bias"]
        seen = lambda x: torch.cat([x[:, :4], torch.zeros(len(x), 2)], 1)
        visual = means(embed(p, seen(support[0])), support[1])
        described = linear("embedding", linear("description", support[0][:, 4:]).relu())
        side = means(described, support[1])
        ask = linear("query", side)
        scores = [(ask * linear("key", modality)).sum(1) / math.sqrt(2) for modality in (visual, side)]
        shares = torch.full((WAY, 2), 0.5) if uniform else softmax(torch.stack(scores, 1), 1)
        classes = shares[:, :1] * visual + shares[:, 1:] * side
        answer = -distances(embed(p, seen(query[0])), classes)
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def ridge():
    shapes = NETWORK | {"log_lambda": (1, 1), "scale": (1, 1), "offset": (1, 1)}

    def task_loss(p, support, query):
        with_one = lambda x: torch.cat([x, torch.ones(len(x), 1)], 1)
        x, y = with_one(embed(p, support[0])), one_hot(support[1]).double()
        penalty = len(x) * p["log_lambda"].exp()
        weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
        answer = p["scale"] * (with_one(embed(p, query[0])) @ weights) + p["offset"]
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def siamese():
    def task_loss(p, support, query):
        difference = (embed(p, query[0])[:, None] - embed(p, support[0])).abs()
        z = (difference @ p["distance.weight"] + p["distance.bias"])[..., 0]
        same = query[1][:, None] == support[1]
        loss = binary_cross_entropy_with_logits(z, same.double(), reduction="none")
        answer = torch.stack([z[:, support[1] == n].mean(1) for n in range(WAY)], 1)
        return answer, (loss[same].mean() + loss[~same].mean()) / 2

    return record(NETWORK | {"distance.weight": (4, 1), "distance.bias": (1, 1)}, task_loss)


def cavia(steps, rate, context, hidden):
    shapes = dict(NETWORK)
    for name, i, o in [("modulation", context, 2 * hidden), ("hidden", EMBEDDED, hidden), ("head", hidden, OUTPUTS)]:
        shapes |= layer(f"modulated.{name}", i, o)

    def task_loss(p, support, query):
        part = lambda name, x: linear(p, f"modulated.{name}", x)

        def answers(c, x):
            gamma, beta = part("modulation", c).chunk(2, 1)
            return part("head", ((1 + gamma) * part("hidden", embed(p, x)) + beta).relu())

        c = torch.zeros(1, context, requires_grad=True)
        for _ in range(steps):
            loss = cross_entropy(answers(c, support[0]), support[1])
            c = c - rate * torch.autograd.grad(loss, c, create_graph=True)[0]
        answer = answers(c, query[0])
        return answer, cross_entropy(answer, query[1])

    return record(shapes, task_loss)


def with_gradient(loss, p, gradients):
    """A number like `loss` with these gradients, for rules that are no gradient of a loss."""
    slope = sum(((p[name] - p[name].detach()) * g.detach()).sum() for name, g in gradients.items())
    return loss.detach() + slope


def copied(p):
    return {name: value.detach().clone().requires_grad_() for name, value in p.items()}


def imaml(steps, rate, penalty, damping, cg_steps):
    def task_loss(p, support, query):
        fast = copied(p)

        def support_gradient():
            loss = cross_entropy(network(fast, support[0]), support[1])
            return torch.autograd.grad(loss, list(fast.values()), create_graph=True)

        for _ in range(steps):
            found = zip(fast, support_gradient())
            fast = copied({name: fast[name] - rate * g for name, g in found})
        # At test there is no pull.
        answer = network(fast, query[0])
        fast = copied({name: v - rate * penalty * (v - p[name]) for name, v in fast.items()})
        loss = cross_entropy(network(fast, query[0]), query[1])
        g = torch.autograd.grad(loss, list(fast.values()))
        flat = lambda parts: torch.cat([part.flatten() for part in parts])

        def product(v):
            along = flat(support_gradient()) @ v
            curved = flat(torch.autograd.grad(along, list(fast.values())))
            return v + curved / (penalty + damping)

        x, r = torch.zeros_like(flat(g)), flat(g)
        d = r
        for _ in range(cg_steps):
            curved = product(d)
            step = (r @ r) / (d @ curved)
            x, after = x + step * d, r - step * curved
            d, r = after + (after @ after) / (r @ r) * d, after
        parts = x.split([v.numel() for v in fast.values()])
        found = {name: part.reshape(v.shape) for (name, v), part in zip(fast.items(), parts)}
        return answer, with_gradient(loss, p, found)

    return record(NETWORK | HEAD, task_loss)


def reptile(steps, rate):
    """The inner Adam has no first moments, and starts anew at every task."""

    def task_loss(p, support, query):
        fast = copied(p)
        optimizer = torch.optim.Adam(fast.values(), lr=rate, betas=(0.0, 0.999))
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(network(fast, support[0]), support[1]).backward()
            optimizer.step()
        answer = network(fast, query[0])
        moved = {name: (p[name] - value) / rate for name, value in fast.items()}
        return answer, with_gradient(cross_entropy(answer, query[1]), p, moved)

    return record(NETWORK | HEAD, task_loss)


def cases():
    ALL = NETWORK | HEAD
    PER_PARAMETER = {f"rates.{name}": shape for name, shape in ALL.items()}
    PER_STEP = {f"rates.{step}.{name}": (1, 1) for step in range(3) for name in ALL}
    return {
        "maml, 1 step": record(ALL, descent(1, lambda p, step, name: 0.1)),
        "maml, 5 steps": record(ALL, descent(5, lambda p, step, name: 0.1)),
        "maml, 5 steps, first order": record(ALL, descent(5, lambda p, step, name: 0.1, exact=False)),
        "maml, 5 steps, regression": record(
            ALL, descent(5, lambda p, step, name: 0.1, criterion=mse_loss), regression=True
        ),
        "meta_sgd": record(ALL | PER_PARAMETER, descent(2, lambda p, step, name: p[f"rates.{name}"])),
        "anil": record(ALL, descent(3, lambda p, step, name: 0.1, adapts=lambda name: name in HEAD)),
        "maml_pp, every": record(
            ALL | PER_STEP, descent(3, lambda p, step, name: p[f"rates.{step}.{name}"], weights=[1 / 3] * 3)
        ),
        # Half of the annealed part is done.
        "maml_pp, annealed": record(
            ALL | PER_STEP, descent(3, lambda p, step, name: p[f"rates.{step}.{name}"], weights=[1 / 6, 1 / 6, 2 / 3])
        ),
        "meta_lstm": meta_lstm(3, 3, exact=False),
        "meta_lstm, exact": meta_lstm(3, 3, exact=True),
        "matching_net": matching(4.0),
        "matching_net, full context": matching(4.0, reads=3),
        "relation_net": relation(5),
        "protonet": protonet(),
        "feat": feat(2.0),
        "multimodal_protonet": multimodal(),
        "multimodal_protonet, uniform": multimodal(uniform=True),
        "ridge": ridge(),
        "siamese": siamese(),
        "cavia": cavia(2, 0.5, 3, 4),
        "imaml": imaml(4, 0.1, 2.0, 10.0, 3),
        "reptile": reptile(4, 0.01),
    }


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases().items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
