"""Meta-learning for compositionality with PyTorch's own `nn.TransformerEncoder` and `nn.TransformerDecoder`:
every query, and every example asked as one, is an input of its own with all examples before it.
"""

import torch
from torch import nn
from torch.nn import functional as F

INPUT, OUTPUT, ASKED, ANSWER = range(4)


class Net(nn.Module):
    """The network, with one table of vectors for symbols, words, places, roles and examples."""

    def __init__(self, workload):
        super().__init__()
        settings, sizes = workload.settings, workload.description["sequences"]
        self.symbols, self.words, self.length = sizes["symbols"], sizes["words"], sizes["length"]
        self.features = workload.item["channels"]
        self.width, self.heads = settings["width"], settings["heads"]
        # Examples do not read the query.
        self.separate = settings["context"] == "separate"
        options = {
            "d_model": settings["width"],
            "nhead": settings["heads"],
            "dim_feedforward": settings["hidden"],
            "dropout": 0.0,
            "layer_norm_eps": workload.epsilon,
            "batch_first": True,
            "norm_first": True,
        }
        norm = lambda: nn.LayerNorm(settings["width"], eps=workload.epsilon)
        self.vectors = nn.Parameter(torch.empty(workload.parameters["vectors"].shape[1:]))
        self.bias = nn.Parameter(torch.empty(self.symbols + 1))
        encoder, decoder = nn.TransformerEncoderLayer(**options), nn.TransformerDecoderLayer(**options)
        self.encoder = nn.TransformerEncoder(
            encoder, settings["layers"], norm=norm(), enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(decoder, settings["decoder_layers"], norm=norm())

    def table(self):
        """First rows of places, roles and examples."""
        places = self.symbols + 2 + self.words
        roles = places + max(self.features, self.length + 1)
        return places, roles, roles + 4

    def forward(self, tokens, absent, before):
        """Scores `[n, places, symbols + 1]`: `tokens [n, l, 4]` are rows of the table, as are those
        `before` each place."""
        zero = F.pad(self.vectors, (0, 0, 0, 1))
        asked = tokens[:, :, 2] == self.table()[1] + ASKED
        hidden = self.separate and (asked[:, None, :] & ~asked[:, :, None]).repeat_interleave(self.heads, 0)
        memory = self.encoder(
            F.embedding(tokens, zero).sum(2),
            mask=hidden if self.separate else None,
            src_key_padding_mask=absent,
        )
        length = before.shape[1]
        later = nn.Transformer.generate_square_subsequent_mask(length).isinf().to(before.device)
        x = self.decoder(
            F.embedding(before, zero).sum(2), memory, tgt_mask=later, memory_key_padding_mask=absent
        )
        return x @ self.vectors[: self.symbols + 1].T / self.width**0.5 + self.bias


def places_of(module, workload):
    """Where each of our parameters is: a tensor, a slice of its rows, whether it is transposed."""
    own = dict(module.named_parameters())
    width = module.width
    found = {"vectors": (own["vectors"], None, False), "bias": (own["bias"], None, False)}

    def put(ours, theirs, rows=None):
        for kind, other in (("weight", "weight"), ("bias", "bias")):
            separator = "_" if rows is not None else "."
            found[f"{ours}.{kind}"] = (own[f"{theirs}{separator}{other}"], rows, kind == "weight")

    def norm(ours, theirs):
        found[f"{ours}.gamma"] = (own[f"{theirs}.weight"], None, False)
        found[f"{ours}.beta"] = (own[f"{theirs}.bias"], None, False)

    def attention(ours, theirs):
        for number, part in enumerate(("query", "key", "value")):
            put(f"{ours}.{part}", f"{theirs}.in_proj", slice(number * width, (number + 1) * width))
        put(f"{ours}.output", f"{theirs}.out_proj")

    for side, blocks in (("encoder", workload.settings["layers"]), ("decoder", workload.settings["decoder_layers"])):
        norm(f"{side}_norm", f"{side}.norm")
        for block in range(blocks):
            ours, theirs = f"{side}.{block}", f"{side}.layers.{block}"
            if side == "encoder":
                norm(f"{ours}.attention_norm", f"{theirs}.norm1")
                norm(f"{ours}.feed_forward_norm", f"{theirs}.norm2")
                attention(f"{ours}.attention", f"{theirs}.self_attn")
            else:
                norm(f"{ours}.own_norm", f"{theirs}.norm1")
                norm(f"{ours}.memory_norm", f"{theirs}.norm2")
                norm(f"{ours}.feed_forward_norm", f"{theirs}.norm3")
                attention(f"{ours}.own", f"{theirs}.self_attn")
                attention(f"{ours}.memory", f"{theirs}.multihead_attn")
            put(f"{ours}.expand", f"{theirs}.linear1")
            put(f"{ours}.contract", f"{theirs}.linear2")
    return found


class Sequences:
    """Inputs of all queries, and one step."""

    def __init__(self, workload, optimizer):
        self.workload = workload
        self.net = Net(workload).to(torch.float64 if workload.is_double else torch.float32)
        self.net.to(workload.device)
        self.places = places_of(self.net, workload)
        with torch.no_grad():
            for name, (tensor, rows, transposed) in self.places.items():
                value = torch.from_numpy(workload.parameters[name])[0]
                value = value.T if transposed else value
                part = tensor if rows is None else tensor[rows]
                part.copy_(value.reshape(part.shape))
        self.parameters = list(self.net.parameters())
        self.optimizer = optimizer(workload, self.parameters)
        self.tokens, self.before, self.targets = self.inputs()

    def inputs(self):
        net, episodes = self.net, self.workload.episodes
        end, start = net.symbols, net.symbols + 1
        places, roles, examples = net.table()
        none = len(net.vectors)

        def token(symbol, place, role, example=None):
            of_example = none if example is None else examples + example
            return [symbol, places + place, roles + role, of_example]

        def words(item, role, example=None):
            there = [int(word) for word in item if word >= 1]
            return [token(net.symbols + 1 + word, at, role, example) for at, word in enumerate(there)]

        inputs, before, targets = [], [], []
        for task in range(self.workload.tasks):
            shown, asked = ([
                (episodes[f"{part}.inputs"][task][item], episodes[f"{part}.targets"][task][item].astype(int))
                for item in range(episodes[f"{part}.inputs"].shape[1])
            ] for part in ("support", "query"))
            context = []
            for example, (item, said) in enumerate(shown):
                said = [symbol for symbol in said if symbol != end]
                context += words(item, INPUT, example)
                context += [token(symbol, at, OUTPUT, example) for at, symbol in enumerate(said)]
            again = shown if self.workload.settings["reproduce"] else []
            for item, said in asked + again:
                inputs.append(context + words(item, ASKED))
                previous = [start] + [int(symbol) for symbol in said[:-1]]
                before.append([token(symbol, at, ANSWER) for at, symbol in enumerate(previous)])
                first = list(said).index(end)
                targets.append([int(s) if at <= first else -100 for at, s in enumerate(said)])
        longest = max(map(len, inputs))
        inputs = [row + [[none] * 4] * (longest - len(row)) for row in inputs]
        tensors = (torch.tensor(x, device=self.workload.device) for x in (inputs, before, targets))
        return tuple(tensors)

    def gradient(self):
        """Leaves the meta-gradient in `.grad` and returns the losses."""
        self.optimizer.zero_grad(set_to_none=True)
        absent = self.tokens[:, :, 0] == len(self.net.vectors)
        scores = self.net(self.tokens, absent, self.before)
        of_places = F.cross_entropy(scores.transpose(1, 2), self.targets, ignore_index=-100, reduction="none")
        there = (self.targets >= 0).to(of_places.dtype)
        of_items = (of_places * there).sum(1) / there.sum(1)
        losses = of_items.unflatten(0, (self.workload.tasks, -1)).mean(1)
        losses.mean().backward()
        return losses.detach()

    def gradients(self):
        """In the exported layout."""
        found = {}
        for name, (tensor, rows, transposed) in self.places.items():
            part = tensor.grad if rows is None else tensor.grad[rows]
            found[name] = (part.T if transposed else part).cpu().numpy()
        return found


def variant(workload, optimizer):
    """`(check, run)` of a workload."""
    learner = Sequences(workload, optimizer)

    def check():
        losses = learner.gradient()
        return workload.check_step(losses.cpu().numpy(), learner.gradients())

    def run():
        losses = learner.gradient()
        learner.optimizer.step()
        return losses

    return check, run
