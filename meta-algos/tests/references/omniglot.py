"""Trains the PyTorch references of ANIL, CAVIA, FEAT and the meta-learner LSTM (`oracles/learners.py`) on Omniglot,
with convolutional encoders, from the first parameters of a run: what an independent program comes to at the same
budget. Tasks are drawn by their own stream, images are resized by Pillow.

    meta run experiments/published/anil-omniglot-5w1s-reduced.toml --data DIR --dir first train.iterations=0
    python omniglot.py DIR anil first 6000

prints the accuracy on 1000 test tasks, 5-way 1-shot with 15 queries of each class. pip install torch==2.15.0 pillow
safetensors
"""

import io
import math
import pathlib
import random
import sys
import time
import zipfile

import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch.nn.functional import batch_norm, conv2d, max_pool2d

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "oracles"))
import learners

torch.set_default_dtype(torch.float32)
SIZE, WAY, SHOT, QUERY, TEST = 28, 5, 1, 15, 1000


class Recipe:
    """What a manifest of `experiments/published` says: tasks of a meta-batch, rate, classes and queries in training."""

    def __init__(self, tasks, rate=1e-3, way=WAY, query=1, clip=None, channels=64, pools=False):
        self.tasks, self.rate, self.way, self.query, self.clip = tasks, rate, way, query, clip
        self.channels, self.pools = channels, pools


RECIPES = {
    "anil": Recipe(tasks=8),
    "cavia": Recipe(tasks=4, pools=True),
    "feat": Recipe(tasks=1, way=20, query=5, pools=True),
    "meta_lstm": Recipe(tasks=4, rate=3e-3, query=5, clip=1.0, channels=32),
}


def pictures(folder):
    """The 20 drawings of every character, `[20, 28, 28]`, ink is 1."""
    characters = {}
    for part in ["images_background", "images_evaluation"]:
        with zipfile.ZipFile(pathlib.Path(folder) / "omniglot" / f"{part}.zip") as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".png"):
                    image = ImageOps.invert(Image.open(io.BytesIO(archive.read(name))).convert("L"))
                    image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
                    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(SIZE, SIZE) / 255
                    characters.setdefault("/".join(name.split("/")[-3:-1]), []).append(pixels)
    return {name: torch.stack(drawings) for name, drawings in characters.items()}


def classes(folder):
    """Training and test classes: characters of the split of Vinyals et al. in four rotations."""
    characters = pictures(folder)
    split = HERE.parents[2] / "meta-core" / "src" / "data" / "omniglot_vinyals.txt"
    parts = {"train": [], "validation": [], "test": []}
    for line in split.read_text().splitlines():
        part, *rest = line.split(" ")
        if part in parts:
            first, last = map(int, rest[1].split("-"))
            for number in range(first, last + 1):
                drawings = characters[f"{rest[0]}/character{number:02}"]
                parts[part] += [drawings.rot90(turns, (1, 2)) for turns in range(4)]
    return parts["train"], parts["test"]


def task(stream, of, way, query):
    """Support and queries, `[items, 1, 28, 28]` with labels."""
    chosen = [(one, stream.sample(range(20), SHOT + query)) for one in stream.sample(of, way)]
    items = lambda cut: torch.stack([drawings[i] for drawings, places in chosen for i in places[cut]])[:, None]
    labels = torch.arange(way)
    support, queries = items(slice(0, SHOT)), items(slice(SHOT, None))
    return (support, labels.repeat_interleave(SHOT)), (queries, labels.repeat_interleave(query))


def convolutions(p, x, pools):
    """Four blocks, statistics of the items of the pass: strides and a mean over positions, or pooling."""
    for index in range(4):
        path = f"encoder.blocks.{index}"
        weight = p[f"{path}.conv.weight"]
        weight = weight.reshape(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)
        x = conv2d(x, weight, stride=1 if pools else 2, padding=1)
        gamma, beta = p[f"{path}.norm.gamma"][0], p[f"{path}.norm.beta"][0]
        x = batch_norm(x, None, None, gamma, beta, training=True).relu()
        x = max_pool2d(x, 2) if pools else x
    return x.flatten(1) if pools else x.mean((2, 3))


def task_losses(name, shapes, recipe):
    """The reference's own function of a task, over convolutions instead of two layers."""
    of = lambda part: {path: shape for path, shape in shapes.items() if path.startswith(part)}
    learners.NETWORK, learners.HEAD = of("encoder."), of("head.")
    learners.OUTPUTS, learners.EMBEDDED = WAY, recipe.channels
    learners.embed = lambda p, x: convolutions(p, x, recipe.pools)
    learners.record = lambda shapes, task_loss, **_: task_loss
    if name == "anil":
        # Three steps at test, one in training; the encoder does not adapt, so each pass is one of its own.
        heads = lambda path: path.startswith("head.")
        return [learners.descent(steps, lambda *_: 0.4, adapts=heads) for steps in (1, 3)]
    if name == "cavia":
        return [learners.cavia(2, 1.0, 100, 64)] * 2
    if name == "meta_lstm":
        return [learners.meta_lstm(5, 20, exact=False)] * 2
    compare = learners.feat(4.0)
    learners.embed = lambda p, x: x

    def together(p, support, query):
        """Support and queries share their statistics."""
        embedded = convolutions(p, torch.cat([support[0], query[0]]), recipe.pools)
        s = len(support[0])
        return compare(p, (embedded[:s], support[1]), (embedded[s:], query[1]))

    return [together] * 2


def main(folder, name, first, iterations, seed=0):
    recipe, stream = RECIPES[name], random.Random(int(seed))
    given = load_file(pathlib.Path(first) / "best.safetensors")
    given = {path.removeprefix("parameters/"): value[0].clone() for path, value in given.items()}
    p = {path: value.requires_grad_() for path, value in given.items()}
    in_training, at_test = task_losses(name, {path: tuple(value.shape) for path, value in p.items()}, recipe)
    train, test = classes(folder)
    optimizer, start = torch.optim.Adam(p.values(), lr=recipe.rate), time.time()
    for iteration in range(int(iterations)):
        learners.WAY = recipe.way
        optimizer.zero_grad()
        total = 0.0
        for _ in range(recipe.tasks):
            _, loss = in_training(p, *task(stream, train, recipe.way, recipe.query))
            (loss / recipe.tasks).backward()
            total += loss.item() / recipe.tasks
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(p.values(), recipe.clip)
        optimizer.step()
        if (iteration + 1) % 100 == 0:
            print(f"{iteration + 1}: {total:.4f}, {time.time() - start:.0f} s", file=sys.stderr, flush=True)
    learners.WAY = WAY
    stream, scores = random.Random(1_000_000 + int(seed)), []
    for _ in range(TEST):
        support, query = task(stream, test, WAY, QUERY)
        answer, _ = at_test(p, support, query)
        scores.append((answer.argmax(1) == query[1]).double().mean().item())
    mean = sum(scores) / TEST
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / (TEST - 1) / TEST)
    accuracy = f"{100 * mean:.2f} ± {196 * spread:.2f} %"
    print(f"{name}, {iterations} iterations of {recipe.tasks} tasks: {accuracy} (PyTorch {torch.__version__})")


if __name__ == "__main__":
    main(*sys.argv[1:])
