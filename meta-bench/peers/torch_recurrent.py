"""Recurrent encoders as `nn.LSTM` and `nn.GRU` compute them, and as loops over cells, which are
differentiable twice where the whole layers are not; MANN and Meta-LSTM as loops of PyTorch operations.

Weights of layers lie as PyTorch wants them, `[gates, in]`; gates of an LSTM there are `i f g o`, ours
`i f o g`.
"""

import torch
import torch.nn.functional as F

LAYERS = ("cell.", "forwards.", "backwards.", "controller.", "memory.", "gru.")


def is_lstm(name, parameters):
    """Whether a parameter belongs to an LSTM, whose weight of the state has no bias."""
    layer = name.split("input.")[0].removesuffix("recurrent")
    return f"{layer}recurrent" in parameters


def of_layer(name):
    """Whether a parameter belongs to a recurrent layer."""
    return any(part + weight in name for part in LAYERS for weight in ("input", "recurrent"))


def swapped(value):
    """Exchanges the last two of four blocks of rows."""
    i, f, third, fourth = value.chunk(4)
    return torch.cat([i, f, fourth, third])


def from_ours(name, value, parameters):
    """A parameter of a layer, `[1, in, gates]` or `[1, 1, gates]`, as PyTorch wants it."""
    value = torch.from_numpy(value)[0].T
    value = value[:, 0] if name.endswith("bias") else value
    value = swapped(value) if is_lstm(name, parameters) else value
    return value.contiguous()


def to_ours(name, value, parameters):
    """A gradient in the exported layout."""
    value = swapped(value) if is_lstm(name, parameters) else value
    return value.T if value.ndim == 2 else value


def weights(p, prefix):
    """The weights of a layer and of both its biases; those of an LSTM add up, and one is fixed."""
    bias = p[f"{prefix}input.bias"]
    if f"{prefix}recurrent" in p:
        fixed = torch.zeros_like(bias)
        return [p[f"{prefix}input.weight"], p[f"{prefix}recurrent"], bias, fixed]
    recurrent = [p[f"{prefix}recurrent.{part}"] for part in ("weight", "bias")]
    return [p[f"{prefix}input.weight"], recurrent[0], bias, recurrent[1]]


def by_layer(kind, p, prefixes, x):
    """`nn.LSTM` and `nn.GRU`, one layer: the last hidden states of all directions, side by side."""
    flat = [weight for prefix in prefixes for weight in weights(p, prefix)]
    zeros = x.new_zeros(len(prefixes), x.shape[0], flat[1].shape[1])
    start = (zeros, zeros) if kind == "lstm" else zeros
    run = getattr(torch._VF, kind)
    last = run(x, start, flat, True, 1, 0.0, True, len(prefixes) == 2, True)[1]
    return last.transpose(0, 1).flatten(1)


def lstm_step(x, state, weights):
    """A cell written out, differentiable to any order."""
    w, u, b, _ = weights
    i, f, g, o = (F.linear(x, w, b) + F.linear(state[0], u)).chunk(4, -1)
    cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def by_cells(p, prefixes, x):
    """The same for LSTMs, step by step."""
    ends = []
    for prefix, steps in zip(prefixes, (x.unbind(1), x.unbind(1)[::-1])):
        of_layer = weights(p, prefix)
        zeros = x.new_zeros(x.shape[0], of_layer[1].shape[1])
        state = zeros, zeros
        for step in steps:
            state = lstm_step(step, state, of_layer)
        ends.append(state[0])
    return torch.cat(ends, 1)


def encode(kind, network, p, x):
    """Items `[b, f]` to embeddings: rows are steps."""
    item = network.workload.item
    x = x.reshape(-1, item["height"], item["width"] * item["channels"])
    layer = f"{network.prefix}layers.0."
    both = kind == "bilstm"
    prefixes = [layer + part for part in (("forwards.", "backwards.") if both else ("cell.",))]
    if network.recurrence == "cells":
        return by_cells(p, prefixes, x)
    return by_layer("gru" if kind == "gru" else "lstm", p, prefixes, x)


def cosines(a, b):
    def unit(x):
        return x / (x.square().sum(-1, keepdim=True) + 1e-12).sqrt()

    return unit(a) @ unit(b).transpose(1, 2)


def mann_losses(workload, network, p, support, query):
    """Losses of all tasks at once: the support as a sequence, then every query a step of its own."""
    settings = workload.settings
    heads, slots, width = settings["heads"], settings["slots"], settings["slot_width"]
    (xs, ys), (xq, yq) = support, query
    tasks, s, q = xs.shape[0], xs.shape[1], xq.shape[1]
    items = network.encode(p, torch.cat([xs, xq], 1).flatten(0, 1)).unflatten(0, (tasks, s + q))
    order = network.episode("support.order").long()[:, :, None]
    presented = items[:, :s].gather(1, order.expand(-1, -1, items.shape[2]))
    targets = F.one_hot(ys, workload.way).to(items.dtype) if workload.classifies else ys
    outputs = targets.shape[2]
    labels = targets.gather(1, order.expand(-1, -1, outputs))
    presented = torch.cat([presented, items.new_zeros(tasks, 1, items.shape[2])], 1)
    labels = torch.cat([items.new_zeros(tasks, 1, outputs), labels], 1)
    controller = weights(p, "controller.")
    hidden = controller[1].shape[1]
    state = (items.new_zeros(tasks, hidden),) * 2
    read = items.new_zeros(tasks, heads * width)
    memory = items.new_zeros(tasks, slots, width)
    reading = items.new_zeros(tasks, heads, slots)
    usage = items.new_zeros(tasks, slots)

    def linear(name, x):
        return torch.addmm(p[f"{name}.bias"], x, p[f"{name}.weight"])

    def keys(h, count):
        return linear("key", h).tanh().unflatten(0, (tasks, count)).reshape(tasks, -1, width)

    def address(keys, memory):
        return (settings["sharpness"] * cosines(keys, memory)).softmax(-1)

    shown = []
    for x, y in zip(presented.unbind(1), labels.unbind(1)):
        state = torch.lstm_cell(torch.cat([x, y, read], 1), state, *controller)
        key = keys(state[0], 1)
        gate = linear("gate", state[0]).sigmoid()[:, :, None]
        ranked = usage.argsort(dim=1, stable=True)[:, :heads]
        least = F.one_hot(ranked, slots).to(items.dtype)
        write = reading * gate + least * (1 - gate)
        kept = 1 - least.sum(1)[:, :, None]
        memory = memory * kept + write.transpose(1, 2) @ key
        reading = address(key, memory)
        read = (reading @ memory).flatten(1)
        usage = settings["decay"] * usage + (reading + write).detach().sum(1)
        shown.append(torch.cat([state[0], read], 1))
    answers = linear("head", torch.stack(shown[:-1], 1).flatten(0, 1)).unflatten(0, (tasks, s))
    # Back in the order of the batch.
    answers = torch.zeros_like(answers).scatter(1, order.expand(-1, -1, outputs), answers)

    def for_queries(x):
        return x[:, None].expand(-1, q, -1).flatten(0, 1)

    seen = [items[:, s:].flatten(0, 1), items.new_zeros(tasks * q, outputs), for_queries(read)]
    h, _ = torch.lstm_cell(
        torch.cat(seen, 1), (for_queries(state[0]), for_queries(state[1])), *controller
    )
    reads = (address(keys(h, q), memory) @ memory).reshape(tasks * q, heads * width)
    of_queries = linear("head", torch.cat([h, reads], 1)).unflatten(0, (tasks, q))
    all_answers, all_targets = torch.cat([answers, of_queries], 1), torch.cat([ys, yq], 1)
    if workload.classifies:
        losses = F.cross_entropy(all_answers.transpose(1, 2), all_targets, reduction="none")
        return losses.mean(1)
    return (all_answers - all_targets).square().mean((1, 2))


def preprocess(x):
    """Scale and sign of numbers of any size, `[n]` to `[n, 2]`."""
    scale = x.abs().clamp_min(torch.e**-10).log() / 10
    return torch.stack([scale, (x * torch.e**10).clamp(-1, 1)], -1)


def meta_lstm_loss(workload, network, p, support, query):
    """The query loss of a task after the steps of the learned optimiser."""
    settings = workload.settings
    second_order = settings["order"] == "second"
    names = [name for name in p if not name.startswith("optimizer.")]
    shapes = [p[name].shape for name in names]
    theta = torch.cat([p[name].flatten() for name in names])

    def named(theta):
        parts = theta.split([shape.numel() for shape in shapes])
        return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes)}

    memory = weights(p, "optimizer.memory.")
    state = (theta.new_zeros(len(theta), memory[1].shape[1]),) * 2
    forget = rate = theta.new_zeros(len(theta), 1)
    for _ in range(settings["inner_steps"]):
        at = theta if second_order else theta.detach().requires_grad_()
        loss = network.loss(named(at), *support)
        (gradient,) = torch.autograd.grad(loss, at, create_graph=second_order)
        loss = loss if second_order else loss.detach()
        of_loss = preprocess(loss).expand(len(theta), 2)
        state = torch.lstm_cell(torch.cat([preprocess(gradient), of_loss], 1), state, *memory)

        def gate(name, last):
            known = torch.cat([state[0], theta[:, None], last], 1)
            weight, bias = p[f"optimizer.{name}.weight"], p[f"optimizer.{name}.bias"]
            return torch.addmm(bias, known, weight).sigmoid()

        forget, rate = gate("forget", forget), gate("input", rate)
        theta = forget[:, 0] * theta - rate[:, 0] * gradient
    return network.loss(named(theta), *query)
