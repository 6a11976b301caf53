"""The training curves of policies in `curves.json`, by PyTorch 2.15.0 (`curves.py` writes them): each iteration learns
from recorded trials, in double precision, with PyTorch's own recurrent cells, attention and distributions. One trial
after the other; nothing is acted, so that both sides learn from the same ones.
"""

import math

import torch
from torch.distributions import Categorical, Normal

from curves import SEEDS, TASKS, Stream, parameters, train
from learners import NETWORK, cell, cell_shapes, embed, layer, linear
from memory import read_snail, snail_shapes
from processes import WIDTH, block, pre_norm_block

TRIALS, LONGEST, ACTIONS, AXES, NUMBERS = 2, 5, 3, 2, 6
DISCOUNT, LAMBDA, CLIP, ENTROPY, VALUE = 0.9, 0.8, 0.2, 0.01, 0.5
HIDDEN, INNER_RATE = 3, 0.05


def trial(stream, length, seen, continuous, best):
    """A recorded trial: what is read in a step is random but for zeros behind the first `seen` numbers, and what an
    action gives depends on what is read. `best`: the action is the place of the largest of the first numbers.
    """
    steps = {"inputs": [], "actions": [], "rewards": [], "values": [], "before": []}
    for _ in range(length):
        row = [stream.bell() for _ in range(seen)] + [0.0] * (NUMBERS - seen)
        if continuous:
            action = [stream.bell() for _ in range(AXES)]
            log = -0.5 * sum(a * a for a in action) - AXES * 0.5 * math.log(2 * math.pi)
            reward = -sum((a - row[axis % seen]) ** 2 for axis, a in enumerate(action))
        else:
            drawn = int(ACTIONS * stream.uniform())
            action = row[:ACTIONS].index(max(row[:ACTIONS])) if best else drawn
            log = -math.log(ACTIONS)
            reward = [row[0], -row[0], 0.0][action]
        steps["inputs"].append(row)
        steps["actions"].append(action)
        steps["rewards"].append(reward + 0.5 * stream.bell())
        steps["values"].append(0.5 * stream.bell())
        steps["before"].append(log + 0.25 * stream.bell())
    return {name: torch.tensor(numbers) for name, numbers in steps.items()}


def weigh(trials, values):
    """Generalised advantages over `values`, centred and scaled over all trials, and the returns that they make."""
    of_trials = []
    for own, value in zip(trials, values):
        advantages, ahead, after = [], 0.0, 0.0
        for reward, now in zip(own["rewards"].flip(0), value.flip(0)):
            ahead = reward + DISCOUNT * after - now + DISCOUNT * LAMBDA * ahead
            after = now
            advantages.insert(0, ahead)
        of_trials.append(torch.stack(advantages))
    every = torch.cat(of_trials)
    for own, advantages, value in zip(trials, of_trials, values):
        own["returns"] = advantages + value
        own["advantages"] = (advantages - every.mean()) / (every.std(unbiased=False) + 1e-8)


def distribution(said, p):
    return Normal(said, p["deviations"].exp()) if "deviations" in p else Categorical(logits=said)


def of_actions(own, said, p):
    """Logarithms of the probabilities of the actions, and entropies, step by step."""
    now = distribution(said, p)
    logs, entropy = now.log_prob(own["actions"]), now.entropy()
    return (logs.sum(1), entropy.sum(1)) if logs.dim() == 2 else (logs, entropy)


def gain(own, logs):
    ratio = (logs - own["before"]).exp()
    return torch.min(ratio * own["advantages"], ratio.clamp(1 - CLIP, 1 + CLIP) * own["advantages"])


def with_memory(shapes, width, read, continuous=False, best=False):
    """PPO of a policy whose memory `read` is of this width; `best`: the cross-entropy of the best actions."""
    shapes = NETWORK | shapes | layer("actions", width, AXES if continuous else ACTIONS) | layer("value", width, 1)
    if continuous:
        shapes["deviations"] = (1, AXES)
    scale = (1 - DISCOUNT**LONGEST) / (1 - DISCOUNT)

    def losses(p, stream):
        draw = lambda place: trial(stream, LONGEST - place, NUMBERS, continuous, best)
        tasks = [[draw(place) for place in range(TRIALS)] for _ in range(TASKS)]
        every = sum(tasks, [])
        weigh(every, [own["values"] for own in every])
        for trials in tasks:
            steps = []
            for own in trials:
                m = read(p, embed(p, own["inputs"]))
                logs, entropy = of_actions(own, linear(p, "actions", m), p)
                error = linear(p, "value", m)[:, 0] - own["returns"] / scale
                ppo = 0.5 * VALUE * error**2 - gain(own, logs) - ENTROPY * entropy
                steps.append(-logs if best else ppo)
            yield torch.cat(steps).mean()

    return shapes, losses


def gru(continuous=False):
    shapes = layer("memory.gru.input", 4, 3 * HIDDEN) | layer("memory.gru.recurrent", HIDDEN, 3 * HIDDEN)

    def read(p, z):
        h, seen = torch.zeros(1, HIDDEN), []
        weights = [p[f"memory.gru.{name}.weight"].T for name in ["input", "recurrent"]]
        biases = [p[f"memory.gru.{name}.bias"].squeeze(0) for name in ["input", "recurrent"]]
        for step in z:
            h = torch.gru_cell(step[None], h, *weights, *biases)
            seen.append(h)
        return torch.cat(seen)

    return with_memory(shapes, HIDDEN, read, continuous)


def lstm():
    def read(p, z):
        h, c, seen = torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN), []
        for step in z:
            h, c = cell(p, "memory.lstm", step[None], h, c)
            seen.append(h)
        return torch.cat(seen)

    return with_memory(cell_shapes("memory.lstm", 4, HIDDEN), HIDDEN, read)


def snail():
    levels = math.ceil(math.log2(LONGEST))
    shapes, width = snail_shapes(4, [3] * 3, [2] * 3, 2, levels, "memory.")
    return with_memory(shapes, width, lambda p, z: read_snail(p, z, levels, path="memory."))


def transformer():
    shapes = layer("memory.embed", 4, WIDTH) | block("memory.blocks.0") | block("memory.blocks.1")

    def read(p, z):
        tokens = linear(p, "memory.embed", z)
        for index in range(2):
            path = f"memory.blocks.{index}"
            after = [pre_norm_block(p, path, tokens[i : i + 1], tokens[: i + 1], False) for i in range(len(z))]
            tokens = torch.cat(after)
        return tokens

    return with_memory(shapes, WIDTH, read, best=True)


def baseline(trials, seen):
    """A linear baseline of the trials of a task: its values."""
    features, returns = [], []
    for own in trials:
        observed, time = own["inputs"][:, :seen].clamp(-10, 10), torch.arange(len(own["rewards"])) / 100
        columns = [time, time**2, time**3, torch.ones_like(time)]
        features.append(torch.cat([observed, observed**2, torch.stack(columns, 1)], 1))
        ahead, sums = 0.0, []
        for reward in own["rewards"].flip(0):
            ahead = reward + DISCOUNT * ahead
            sums.insert(0, ahead)
        returns.append(torch.stack(sums))
    x, y = torch.cat(features), torch.cat(returns)
    weights = torch.linalg.solve(x.T @ x + 1e-5 * torch.eye(x.shape[1]), x.T @ y)
    return [own @ weights for own in features]


def maml_rl(surrogate, exact=True, continuous=False):
    """MAML over recorded trials: a step on those of the first stage, PPO on those of the second."""
    seen = 2 if continuous else 1
    shapes = NETWORK | layer("head", 4, AXES if continuous else ACTIONS)
    if continuous:
        shapes["deviations"] = (1, AXES)
    said = lambda p, own: of_actions(own, linear(p, "head", embed(p, own["inputs"])), p)

    def inner(p, own):
        logs, _ = said(p, own)
        moved = logs - own["before"]
        ratios = {
            "lvc": lambda: moved.exp(),
            "dice": lambda: moved.cumsum(0).exp() - (moved.cumsum(0) - moved).exp(),
            "score": lambda: logs,
        }
        return -ratios[surrogate]() * own["advantages"]

    def losses(p, stream):
        draw = lambda place: trial(stream, LONGEST - place, seen, continuous, False)
        stages = [[[draw(place) for place in range(TRIALS)] for _ in range(TASKS)] for _ in range(2)]
        for first, second in zip(*stages):
            for trials in [first, second]:
                weigh(trials, baseline(trials, seen))
            loss = torch.cat([inner(p, own) for own in first]).mean()
            slopes = torch.autograd.grad(loss, list(p.values()), create_graph=exact)
            fast = {name: p[name] - INNER_RATE * slope for name, slope in zip(p, slopes)}
            steps = []
            for own in second:
                logs, entropy = said(fast, own)
                steps.append(-gain(own, logs) - ENTROPY * entropy)
            yield torch.cat(steps).mean()

    return shapes, losses


def curve(shapes, losses, seed):
    p, stream = parameters(shapes, seed), Stream(seed)
    return train(p, lambda: [list(losses(p, stream))])


def cases():
    references = {
        "rl2": gru(),
        "rl2, lstm": lstm(),
        "rl2, continuous": gru(continuous=True),
        "snail_policy": snail(),
        "dpt": transformer(),
        "maml_rl, dice": maml_rl("dice"),
        "maml_rl, lvc": maml_rl("lvc"),
        "maml_rl, score": maml_rl("score"),
        "maml_rl, first order": maml_rl("dice", exact=False),
        "maml_rl, continuous": maml_rl("dice", continuous=True),
    }
    return {name: [curve(*reference, seed) for seed in range(SEEDS)] for name, reference in references.items()}
