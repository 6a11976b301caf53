"""Writes `weights.json` and the files in `weights/`, by PyTorch 2.9.0 and safetensors 0.8.0 (pip install
torch==2.9.0 safetensors==0.8.0): small networks by the names and layouts of other libraries, with inputs and
what the networks make of them. The names are those of the public sources of prototypical-networks, torchmeta,
learn2learn, LibFewShot and FEAT."""

import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(11)
here = pathlib.Path(__file__).parent
folder = here / "weights"
folder.mkdir(exist_ok=True)


def block(inputs, outputs, statistics=True):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs, track_running_stats=statistics),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class NamedBlock(nn.Module):
    """learn2learn: `conv` and `normalize`, without running statistics."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.max_pool = nn.MaxPool2d(2)
        self.normalize = nn.BatchNorm2d(outputs, affine=True, track_running_stats=False)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=True)

    def forward(self, x):
        return self.max_pool(self.relu(self.normalize(self.conv(x))))


class Residual(nn.Module):
    """A block of the ResNet-12 of LibFewShot, FEAT and easyfsl."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.LeakyReLU(0.1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.maxpool = nn.MaxPool2d(2)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.maxpool(self.relu(self.bn3(self.conv3(out)) + self.downsample(x)))


class Resnet12(nn.Module):
    def __init__(self, inputs, widths):
        super().__init__()
        for stage, width in enumerate(widths, 1):
            setattr(self, f"layer{stage}", nn.Sequential(Residual(inputs, width)))
            inputs = width
        self.stages = len(widths)

    def forward(self, x):
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean([2, 3])


class Wrapped(nn.Module):
    """A network below a name, with a classifier beside it."""

    def __init__(self, name, network, width):
        super().__init__()
        setattr(self, name, network)
        self.name = name
        self.classifier = nn.Linear(width, 5)

    def forward(self, x):
        return getattr(self, self.name)(x)


class Layers(nn.Module):
    """LibFewShot's Conv64F: `layer1` to `layer4`."""

    def __init__(self, inputs, width):
        super().__init__()
        self.layer1, self.layer2 = block(inputs, width), block(width, width)

    def forward(self, x):
        return self.layer2(self.layer1(x))


def lively(network):
    """Running statistics and shifts that are not those of a network that has seen nothing."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


C, W = 2, 3
cases = {
    # prototypical-networks, torchmeta's prototypical network.
    "protonet.pt": (Wrapped("encoder", nn.Sequential(block(C, W), block(W, W)), 12), lambda d: d),
    # torchmeta's MAML.
    "torchmeta.pt": (Wrapped("features", nn.Sequential(block(C, W, False), block(W, W, False)), 12), lambda d: d),
    # learn2learn's CNN4.
    "learn2learn.pt": (Wrapped("features", nn.Sequential(NamedBlock(C, W), NamedBlock(W, W)), 12), lambda d: d),
    # LibFewShot's `model_last.pth`.
    "libfewshot.pth": (Wrapped("emb_func", Layers(C, W), 12), lambda d: {"epoch": 3, "model": d}),
    # FEAT's file.
    "feat.pth": (Wrapped("encoder", Resnet12(C, [3, 4]), 4), lambda d: {"params": d}),
    # easyfsl's bare ResNet-12, on several GPUs.
    "resnet12.safetensors": (Wrapped("module", Resnet12(C, [3, 4]), 4), lambda d: d),
}
x = torch.randn(4, C, 8, 8)
numbers = {"x": x}
for name, (network, wrap) in cases.items():
    lively(network).eval()
    with torch.no_grad():
        numbers[name] = network(x)
    state = wrap(network.state_dict())
    if name.endswith("safetensors"):
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)


def plain(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


text = json.dumps({name: plain(tensor) for name, tensor in numbers.items()}, indent=1)
pathlib.Path(__file__).with_suffix(".json").write_text(text + "\n")
