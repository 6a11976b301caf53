"""Writes `sequences.json`, the numbers of `meta-core/tests/derivatives/sequences.rs`, by PyTorch 2.15.0:
encoders of sequences from PyTorch's own layers, one item after the other and without the rows that pad it, and
gradients of `sum(direction * tanh(outputs))`.
"""

import json
import pathlib

import torch
from torch.nn import LSTM, Conv1d, LayerNorm, Linear
from torch.nn.functional import pad

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
TASKS, ITEMS, LENGTH, FEATURES = 2, 3, 6, 3
# Of a normalisation.
EPSILON = 1e-5
# Rows of each item that are there.
THERE = [[6, 4, 1], [3, 5, 2]]


class Additive(torch.nn.Module):
    """Attention with one learned query (Yang et al., NAACL 2016, equations 5 to 7)."""

    def __init__(self, width, hidden):
        super().__init__()
        self.hidden, self.query = Linear(width, hidden), Linear(hidden, 1, bias=False)

    def forward(self, rows):
        return self.query(torch.tanh(self.hidden(rows))).softmax(0).T @ rows

    def ours(self, name=""):
        return {
            f"{name}hidden.weight": (self.hidden.weight, lambda w: w.T),
            f"{name}hidden.bias": (self.hidden.bias, lambda b: b),
            f"{name}query": (self.query.weight, lambda w: w.T),
        }


class Recurrent(torch.nn.Module):
    """Additive attention over the states of a bidirectional LSTM (Bahdanau et al., ICLR 2015, read by one query)."""

    def __init__(self, width, hidden):
        super().__init__()
        self.lstm = LSTM(FEATURES, width, bidirectional=True)
        # One bias is enough.
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):
                parameter.data.zero_()
        self.pool = Additive(2 * width, hidden)

    def forward(self, rows):
        return self.pool(self.lstm(rows)[0])

    def ours(self):
        def gates(tensor):
            i, f, g, o = tensor.chunk(4, 0)
            return torch.cat([i, f, o, g], 0).t()

        named = self.pool.ours()
        for suffix, direction in [("", "forwards"), ("_reverse", "backwards")]:
            named |= {
                f"{direction}.input.weight": (getattr(self.lstm, f"weight_ih_l0{suffix}"), gates),
                f"{direction}.input.bias": (getattr(self.lstm, f"bias_ih_l0{suffix}"), gates),
                f"{direction}.recurrent": (getattr(self.lstm, f"weight_hh_l0{suffix}"), gates),
            }
        return named


class Hierarchical(torch.nn.Module):
    """Words of a sentence, then sentences (Yang et al., NAACL 2016, equations 5 to 10)."""

    def __init__(self, span, hidden):
        super().__init__()
        self.span, self.within, self.over = span, Additive(FEATURES, hidden), Additive(FEATURES, hidden)

    def forward(self, rows):
        return self.over(torch.cat([self.within(sentence) for sentence in rows.split(self.span)], 0))

    def ours(self):
        return self.within.ours("within.") | self.over.ours("over.")


def window(weight):
    """Filters as rows of a window, one after the other."""
    return weight.permute(2, 1, 0).reshape(-1, weight.shape[0])


class TextCnn(torch.nn.Module):
    """Kim, EMNLP 2014, section 2; a window begins at every row, with zeros behind the last one."""

    def __init__(self, widths, filters):
        super().__init__()
        self.layers = torch.nn.ModuleList([Conv1d(FEATURES, filters, width) for width in widths])

    def forward(self, rows):
        seen = []
        for layer in self.layers:
            behind = torch.zeros(layer.kernel_size[0] - 1, FEATURES)
            answers = layer(torch.cat([rows, behind], 0).T[None])[0].relu()
            seen.append(answers.amax(1))
        return torch.cat(seen)[None]

    def ours(self):
        named = {}
        for place, layer in enumerate(self.layers):
            named |= {
                f"filters.{place}.weight": (layer.weight, window),
                f"filters.{place}.bias": (layer.bias, lambda b: b),
            }
        return named


class Steps(torch.nn.Module):
    """A convolution along the steps, zeros around them, a normalisation of the answers of a step, and a ReLU."""

    def __init__(self, inputs, filters, kernel, before, behind, dilation=1):
        super().__init__()
        self.conv = Conv1d(inputs, filters, kernel, dilation=dilation, bias=False)
        self.norm, self.around = LayerNorm(filters, eps=EPSILON), (before, behind)
        with torch.no_grad():
            self.norm.weight.add_(0.3 * torch.randn(filters))
            self.norm.bias.add_(0.3 * torch.randn(filters))

    def forward(self, rows):
        return self.norm(self.conv(pad(rows.T[None], self.around))[0].T).relu()

    def ours(self, name):
        same = lambda tensor: tensor
        return {
            f"{name}.conv.weight": (self.conv.weight, window),
            f"{name}.norm.gamma": (self.norm.weight, same),
            f"{name}.norm.beta": (self.norm.bias, same),
        }


class Convolutions(torch.nn.Module):
    """Wang et al., IJCNN 2017, section II.B, normalised over channels; a filter has its step in the middle."""

    def __init__(self, filters, kernels):
        super().__init__()
        layers = zip([FEATURES] + filters, filters, kernels)
        self.layers = torch.nn.ModuleList([Steps(i, o, k, (k - 1) // 2, k // 2) for i, o, k in layers])

    def forward(self, rows):
        for layer in self.layers:
            rows = layer(rows)
        return rows.mean(0, keepdim=True)

    def ours(self):
        return {k: v for place, layer in enumerate(self.layers) for k, v in layer.ours(f"layers.{place}").items()}


class Tcn(torch.nn.Module):
    """Bai et al., 2018, section 3, normalised over channels; the last step."""

    def __init__(self, width, kernel, levels):
        super().__init__()
        layer = lambda inputs, d: Steps(inputs, width, kernel, (kernel - 1) * d, 0, d)
        self.first = torch.nn.ModuleList([layer(width if at else FEATURES, 2**at) for at in range(levels)])
        self.second = torch.nn.ModuleList([layer(width, 2**at) for at in range(levels)])
        self.skip = Linear(FEATURES, width)

    def forward(self, rows):
        for at, (first, second) in enumerate(zip(self.first, self.second)):
            past = rows if at else self.skip(rows)
            rows = (past + second(first(rows))).relu()
        return rows[-1:]

    def ours(self):
        named = {
            "levels.0.skip.weight": (self.skip.weight, lambda w: w.T),
            "levels.0.skip.bias": (self.skip.bias, lambda b: b),
        }
        for at, (first, second) in enumerate(zip(self.first, self.second)):
            named |= first.ours(f"levels.{at}.first") | second.ours(f"levels.{at}.second")
        return named


def plain(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


def case(model):
    rows = torch.randn(TASKS, ITEMS, LENGTH, FEATURES)
    for task, counts in enumerate(THERE):
        for item, count in enumerate(counts):
            rows[task, item, count:] = 0
    rows.requires_grad_()
    of = lambda task, item: model(rows[task, item, : THERE[task][item]])[0]
    outputs = torch.stack([torch.stack([of(task, item) for item in range(ITEMS)]) for task in range(TASKS)])
    direction = torch.randn_like(outputs)
    (outputs.tanh() * direction).sum().backward()
    named = {"x": rows.flatten(2), "x.grad": rows.grad.flatten(2), "outputs": outputs, "direction": direction}
    for name, (parameter, to_ours) in model.ours().items():
        named |= {name: to_ours(parameter).flatten(), f"{name}.grad": to_ours(parameter.grad).flatten()}
    return named


cases = {
    "additive": case(Additive(FEATURES, 4)),
    "recurrent": case(Recurrent(2, 4)),
    "hierarchical": case(Hierarchical(2, 4)),
    "text_cnn": case(TextCnn([1, 2, 3], 4)),
    "conv1d": case(Convolutions([4, 3], [3, 2])),
    "tcn": case(Tcn(4, 2, 2)),
}
numbers = {f"{name}/{own}": plain(tensor) for name, all in cases.items() for own, tensor in all.items()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
