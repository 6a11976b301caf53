"""Encoders of texts: rows of word vectors, of which rows of zeros are padding.

Weights of filters stay `[w·f, filters]`, as ours are, and are views of what PyTorch's convolutions want.
"""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import torch_recurrent


def rows_of(network, x):
    """Items `[b, f]` as rows `[b, l, c]`, and which of them are there, `[b, l]`."""
    item = network.workload.item
    rows = x.reshape(-1, item["height"], item["width"] * item["channels"])
    return rows, rows.abs().sum(2) > 0


def text_cnn(network, p, x):
    """The largest answer of each filter over the windows that begin at a row that is there."""
    rows, there = rows_of(network, x)
    columns, found = rows.transpose(1, 2), []
    for layer, width in enumerate(network.workload.encoder_settings["widths"]):
        name = f"{network.prefix}filters.{layer}"
        weight = p[f"{name}.weight"].unflatten(0, (width, -1)).permute(2, 1, 0)
        seen = F.conv1d(F.pad(columns, (0, width - 1)), weight, p[f"{name}.bias"])
        found.append(F.relu(seen).masked_fill(~there[:, None], 0.0).amax(2))
    return torch.cat(found, 1)


def attention_pooling(network, p, x):
    """Additive attention over the states of a bidirectional LSTM; sequences are packed by their lengths."""
    rows, there = rows_of(network, x)
    prefixes = [f"{network.prefix}recurrent.{part}." for part in ("forwards", "backwards")]
    flat = [weight for prefix in prefixes for weight in torch_recurrent.weights(p, prefix)]
    packed = pack_padded_sequence(rows, there.sum(1).cpu(), True, False)
    zeros = rows.new_zeros(2, len(rows), flat[1].shape[1])
    output = torch._VF.lstm(packed.data, packed.batch_sizes, (zeros, zeros), flat, True, 1, 0.0, True, True)[0]
    packed = PackedSequence(output, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    states, _ = pad_packed_sequence(packed, True, total_length=rows.shape[1])
    named = {name: value for name, value in p.items() if name.startswith(f"{network.prefix}pool.")}

    def of(end):
        return next(value for name, value in named.items() if name.endswith(end))

    scores = torch.tanh(states @ of("hidden.weight") + of("hidden.bias")) @ of("query")
    weights = scores[..., 0].masked_fill(~there, -torch.inf).softmax(1)
    return (weights[:, None] @ states)[:, 0]
