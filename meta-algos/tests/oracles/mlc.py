"""Writes `mlc.json`, the numbers of `meta-algos/tests/oracles/mlc.rs`, by PyTorch (pip install torch): losses,
meta-gradients, and answers decoded a symbol at a time of encoders and decoders on sentences, in double
precision, from PyTorch's own attention, layer normalisation and cross-entropy. Every query is computed by
itself, and every answer anew for each of its symbols: no mask, no batch and no cache of the Rust code is here.
"""

import json
import pathlib

import torch
from torch.nn.functional import cross_entropy, layer_norm, scaled_dot_product_attention

from learners import linear, parameters

TASKS, SHOT, QUERY = 2, 4, 3
ITERATIONS = 100
WORDS, SYMBOLS, FEATURES, LENGTH = 5, 3, 4, 2
WIDTH, HEADS, HIDDEN, LAYERS, DECODER_LAYERS = 4, 2, 5, 2, 1
END, START = SYMBOLS, SYMBOLS + 1
PLACES = SYMBOLS + 2 + WORDS
MOST = max(FEATURES, LENGTH + 1)
ROLES = PLACES + MOST
EXAMPLES = ROLES + 4
INPUT, OUTPUT, ASKED, ANSWER = range(4)


def sentence(task, item):
    """Words from 1 and symbols from 0 of an item; queries are the items from 10 on."""
    words = [1 + (3 * task + 2 * item + place) % WORDS for place in range(1 + (item + task) % 3)]
    symbols = [(task + item * item + place) % SYMBOLS for place in range(1 + (2 * item + task) % LENGTH)]
    return words, symbols


def attention(path):
    shapes = {}
    for part in ["query", "key", "value", "output"]:
        shapes |= {f"{path}.{part}.weight": (WIDTH, WIDTH), f"{path}.{part}.bias": (1, WIDTH)}
    return shapes


def norm(path):
    return {f"{path}.gamma": (1, WIDTH), f"{path}.beta": (1, WIDTH)}


def feed_forward(path):
    return norm(f"{path}.feed_forward_norm") | {
        f"{path}.expand.weight": (WIDTH, HIDDEN),
        f"{path}.expand.bias": (1, HIDDEN),
        f"{path}.contract.weight": (HIDDEN, WIDTH),
        f"{path}.contract.bias": (1, WIDTH),
    }


def shapes(case):
    rows = EXAMPLES + SHOT + (PLACES * MOST if case["other_side"] else 0)
    all = {"vectors": (rows, WIDTH), "bias": (1, SYMBOLS + 1)}
    for layer in range(LAYERS):
        path = f"encoder.{layer}"
        all |= norm(f"{path}.attention_norm") | attention(f"{path}.attention") | feed_forward(path)
    for layer in range(DECODER_LAYERS):
        path = f"decoder.{layer}"
        all |= norm(f"{path}.own_norm") | attention(f"{path}.own")
        all |= norm(f"{path}.memory_norm") | attention(f"{path}.memory") | feed_forward(path)
    return all | norm("encoder_norm") | norm("decoder_norm")


def normalise(p, path, x):
    gamma, beta = p[f"{path}.gamma"].flatten(), p[f"{path}.beta"].flatten()
    return layer_norm(x, (WIDTH,), gamma, beta, eps=1e-5)


def attend(p, path, queries, memory, uniform=False, causal=False):
    def heads(part, x):
        return linear(p, f"{path}.{part}", x).unflatten(1, (HEADS, WIDTH // HEADS)).transpose(0, 1)

    q, k, v = heads("query", queries), heads("key", memory), heads("value", memory)
    if uniform:
        read = v.mean(1, keepdim=True).expand_as(q)
    else:
        read = scaled_dot_product_attention(q, k, v, is_causal=causal)
    return linear(p, f"{path}.output", read.transpose(0, 1).flatten(1))


def add_feed_forward(p, path, x):
    hidden = linear(p, f"{path}.expand", normalise(p, f"{path}.feed_forward_norm", x)).relu()
    return x + linear(p, f"{path}.contract", hidden)


def token(p, symbol, place, role, example=None, other=()):
    rows = [symbol, PLACES + place, ROLES + role] + ([] if example is None else [EXAMPLES + example])
    vector = p["vectors"][rows].sum(0)
    if not other:
        return vector
    placed = [EXAMPLES + SHOT + own * MOST + at for at, own in enumerate(other)]
    return vector + (p["vectors"][list(other)].sum(0) + p["vectors"][placed].sum(0)) / len(other) ** 0.5


def words_of(p, words, role, example=None, other=()):
    return [token(p, SYMBOLS + 1 + word, place, role, example, other) for place, word in enumerate(words)]


def memory(p, task, words, case):
    """What the encoder makes of the examples and one query."""
    examples, owners = [], []
    for example in range(SHOT):
        own, symbols = sentence(task, example)
        told = case["other_side"]
        bag = [SYMBOLS + 1 + word for word in own] if told else ()
        own = words_of(p, own, INPUT, example, symbols if told else ())
        own += [token(p, symbol, place, OUTPUT, example, bag) for place, symbol in enumerate(symbols)]
        examples += own
        owners += [example] * len(own)
    if case["context"] == "none":
        examples, owners = [], []
    x = torch.stack(examples + words_of(p, words, ASKED))
    shown = len(examples)
    for layer in range(LAYERS):
        path = f"encoder.{layer}"
        y = normalise(p, f"{path}.attention_norm", x)
        own_example = layer < case["own_example"]
        read = []
        for place in range(len(x)):
            if own_example:
                owner = owners[place] if place < shown else None
                keys = [at for at in range(len(x)) if (owners[at] if at < shown else None) == owner]
            elif case["context"] == "separate" and place < shown:
                keys = list(range(shown))
            else:
                keys = list(range(len(x)))
            read.append(attend(p, f"{path}.attention", y[place : place + 1], y[keys], case["uniform"]))
        x = add_feed_forward(p, path, x + torch.cat(read))
    return normalise(p, "encoder_norm", x)


def scores(p, m, words, before, case):
    """Scores at every place after the symbols `before` it, of the answer to `words`."""
    tokens = [START] + before
    asked = [SYMBOLS + 1 + word for word in words] if case["other_side"] else ()
    x = torch.stack([token(p, symbol, place, ANSWER, None, asked) for place, symbol in enumerate(tokens)])
    for layer in range(DECODER_LAYERS):
        path = f"decoder.{layer}"
        y = normalise(p, f"{path}.own_norm", x)
        x = x + attend(p, f"{path}.own", y, y, causal=True)
        y = normalise(p, f"{path}.memory_norm", x)
        x = add_feed_forward(p, path, x + attend(p, f"{path}.memory", y, m, case["uniform_cross"]))
    x = normalise(p, "decoder_norm", x)
    return x @ p["vectors"][: SYMBOLS + 1].T / WIDTH**0.5 + p["bias"]


def of_items(p, task, case):
    """Losses of the queries, and of the examples where they are asked for again."""
    asked = [sentence(task, 10 + query) for query in range(QUERY)]
    again = [sentence(task, example) for example in range(SHOT)] if case["reproduce"] else []
    found = []
    for words, symbols in asked + again:
        m = memory(p, task, words, case)
        found.append(cross_entropy(scores(p, m, words, symbols, case), torch.tensor(symbols + [END])))
    return torch.stack(found)


def curve(case):
    """Losses of a training by Adam on both tasks."""
    p = parameters(shapes(case))
    optimizer, losses = torch.optim.Adam(p.values(), lr=0.01), []
    for _ in range(ITERATIONS):
        loss = torch.stack([of_items(p, task, case).mean() for task in range(TASKS)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def record(case):
    p = parameters(shapes(case))
    losses, likelihoods, said = [], [], []
    for task in range(TASKS):
        found = of_items(p, task, case)
        losses.append(found.mean())
        likelihoods.append(-found[:QUERY].mean().item())
        for words, _ in [sentence(task, 10 + query) for query in range(QUERY)]:
            m, answer = memory(p, task, words, case), []
            while len(answer) <= LENGTH and END not in answer:
                answer.append(scores(p, m, words, answer, case)[-1].argmax().item())
            said += answer + [END] * (LENGTH + 1 - len(answer))
    gradients = torch.autograd.grad(torch.stack(losses).mean(), list(p.values()), allow_unused=True)
    gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(p.values(), gradients)]
    return {
        "losses": [loss.item() for loss in losses],
        "log_likelihoods": likelihoods,
        "answers": said,
        "gradients": {name: g.flatten().tolist() for name, g in zip(p, gradients)},
        "curve": curve(case),
    }


def case(context, own_example=0, other_side=False, reproduce=True, uniform=False, uniform_cross=False):
    return locals()


numbers = {
    "joint": record(case("joint")),
    "separate": record(case("separate", own_example=1, other_side=True)),
    "none": record(case("none", reproduce=False)),
    "uniform": record(case("separate", uniform=True, uniform_cross=True)),
}
lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in numbers.items()]
pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
