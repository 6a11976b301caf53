"""The networks and losses of the workloads in PyTorch, as functions of a dictionary of parameters.

Parameters have no task axis here. Convolution weights are `[out, in, 3, 3]` and images
`[items, channels, height, width]`, as PyTorch's convolutions want them; linear weights stay
`[in, out]`.
"""

import sys

import torch
import torch.nn.functional as F

import torch_recurrent
import torch_text


def start(given):
    """Threads, the device, and f32 where f32 is said: no TF32."""
    torch.set_num_threads(given.threads)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def place(tensor):
    """The kind of device that a tensor lies on."""
    return tensor.device.type


def from_ours(name, value, parameters):
    """A parameter of a network with these as PyTorch wants it."""
    if torch_recurrent.of_layer(name):
        return torch_recurrent.from_ours(name, value, parameters)
    value = torch.from_numpy(value)[0]
    if name.endswith("conv.weight"):
        taps, inputs, outputs = value.shape
        kernel = int(taps**0.5)
        return value.reshape(kernel, kernel, inputs, outputs).permute(3, 2, 0, 1).contiguous()
    return value[0].clone() if value.shape[0] == 1 and not name.endswith("weight") else value.clone()


def to_ours(name, value, parameters):
    """A gradient in the exported layout."""
    value = value.detach()
    if torch_recurrent.of_layer(name):
        value = torch_recurrent.to_ours(name, value, parameters)
    if name.endswith("conv.weight"):
        value = value.permute(2, 3, 1, 0)
    return value.contiguous().cpu().numpy()


class Network:
    """The workload's network, with the head where it has one."""

    def __init__(
        self,
        workload,
        memory_format=torch.contiguous_format,
        convolution="conv",
        transforms=False,
        recurrence="layer",
    ):
        self.workload = workload
        self.transforms = transforms
        self.recurrence = recurrence
        self.memory_format = memory_format
        self.convolution = convolution
        self.has_head = "head.weight" in workload.parameters
        self.prefix = "encoder." if self.has_head else ""
        self.encode = getattr(self, workload.encoder)

    def parameters(self):
        """Fresh copies of the initial parameters."""
        tensors = {
            name: from_ours(name, value, self.workload.parameters).to(self.workload.device)
            for name, value in self.workload.parameters.items()
        }
        return {
            name: value.contiguous(memory_format=self.memory_format) if value.ndim == 4 else value
            for name, value in tensors.items()
        }

    def episode(self, name):
        return torch.from_numpy(self.workload.episodes[name]).to(self.workload.device)

    def inputs(self, part):
        """Inputs of all tasks, `[t, b, …]`."""
        values = self.episode(f"{part}.inputs")
        if self.workload.encoder != "conv4":
            return values
        item = self.workload.item
        t, b, _ = values.shape
        images = values.reshape(t * b, item["height"], item["width"], item["channels"])
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)
        return images.unflatten(0, (t, b))

    def targets(self, part):
        values = self.episode(f"{part}.targets")
        return values.long() if self.workload.classifies else values

    def __call__(self, p, x):
        features = self.encode(p, x)
        if not self.has_head:
            return features
        return torch.addmm(p["head.bias"], features, p["head.weight"])

    def loss(self, p, x, y):
        return self.loss_of(self(p, x), y)

    def loss_of(self, predictions, y):
        if self.workload.classifies:
            return F.cross_entropy(predictions, y)
        return F.mse_loss(predictions, y)

    def linear(self, p, name, x):
        name = self.prefix + name
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def mlp(self, p, x):
        for layer in range(len(self.workload.encoder_settings["hidden"])):
            name = f"{self.prefix}layers.{layer}"
            x = F.relu(torch.addmm(p[f"{name}.bias"], x, p[f"{name}.weight"]))
        return x

    def lstm(self, p, x):
        return torch_recurrent.encode("lstm", self, p, x)

    def bilstm(self, p, x):
        return torch_recurrent.encode("bilstm", self, p, x)

    def gru(self, p, x):
        return torch_recurrent.encode("gru", self, p, x)

    def text_cnn(self, p, x):
        return torch_text.text_cnn(self, p, x)

    def attention_pooling(self, p, x):
        return torch_text.attention_pooling(self, p, x)

    def conv4(self, p, x):
        for block in range(self.workload.encoder_settings["blocks"]):
            name = f"{self.prefix}blocks.{block}"
            x = self.conv(x, p[f"{name}.conv.weight"])
            x = self.batch_norm(x, p[f"{name}.norm.gamma"], p[f"{name}.norm.beta"])
            x = F.max_pool2d(F.relu(x), 2)
        return x.permute(0, 2, 3, 1).flatten(1)

    def batch_norm(self, x, gamma, beta):
        epsilon = self.workload.epsilon
        if not self.transforms:
            return F.batch_norm(x, None, None, gamma, beta, training=True, eps=epsilon)
        # Under torch.func the second derivative of F.batch_norm is wrong in PyTorch 2.9 (by percents,
        # in f64, against torch.autograd): written out.
        centred = x - x.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale = gamma[:, None, None] * torch.rsqrt(variance + epsilon)
        return torch.addcmul(beta[:, None, None], centred, scale)

    def conv(self, x, weight):
        if self.convolution == "conv":
            return F.conv2d(x, weight, padding=1)
        # A matrix product per task, which batches over tasks where a convolution does not.
        b, _, height, width = x.shape
        columns = F.unfold(x, 3, padding=1)
        return (weight.flatten(1) @ columns).unflatten(2, (height, width))

    def attention(self, p, x):
        settings, item = self.workload.encoder_settings, self.workload.item
        patch, heads, d = settings["patch"], settings["heads"], settings["width"]
        rows, columns = item["height"] // patch, item["width"] // patch
        b = x.shape[0]
        x = x.reshape(b, rows, patch, columns, patch * item["channels"])
        x = x.transpose(2, 3).reshape(b, rows * columns, -1)
        x = self.linear(p, "embedding", x)
        x = x + p[f"{self.prefix}positions"].reshape(rows * columns, d)
        for layer in range(settings["layers"]):
            block = f"blocks.{layer}"
            normalised = self.layer_norm(p, f"{block}.attention_norm", x)
            x = x + self.self_attention(p, f"{block}.attention", heads, normalised)
            normalised = self.layer_norm(p, f"{block}.feed_forward_norm", x)
            hidden = F.relu(self.linear(p, f"{block}.expand", normalised))
            x = x + self.linear(p, f"{block}.contract", hidden)
        return self.layer_norm(p, "norm", x).mean(1)

    def layer_norm(self, p, name, x):
        name = self.prefix + name
        gamma, beta = p[f"{name}.gamma"], p[f"{name}.beta"]
        if not self.transforms:
            return F.layer_norm(x, x.shape[-1:], gamma, beta, self.workload.epsilon)
        # As for batch_norm.
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.workload.epsilon) * gamma + beta

    def self_attention(self, p, name, heads, x):
        # Written out: the fused kernels of scaled_dot_product_attention are not twice differentiable.
        d = x.shape[-1]
        query, key, value = (
            self.linear(p, f"{name}.{part}", x).unflatten(2, (heads, d // heads)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(2, 3) * (d // heads) ** -0.5
        read = scores.softmax(-1) @ value
        return self.linear(p, f"{name}.output", read.transpose(1, 2).flatten(2))

    def prototype_loss(self, p, support, query, labels):
        """Cross-entropy of −‖φ(x) − c‖², support and query normalised together."""
        way, shot = self.workload.way, self.workload.shot
        features = self(p, torch.cat([support, query]))
        prototypes = features[: way * shot].unflatten(0, (way, shot)).mean(1)
        query = features[way * shot :]
        distances = (
            query.square().sum(1, keepdim=True)
            - 2 * query @ prototypes.T
            + prototypes.square().sum(1)
        )
        return F.cross_entropy(-distances, labels)


def adam(workload, parameters):
    settings = workload.adam
    return torch.optim.Adam(
        parameters,
        lr=workload.outer_lr,
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        fused=True,
    )


def with_threads(threads, functions):
    """The same functions, each on this number of threads, and waited for where a GPU computes."""

    def on_threads(function):
        def run():
            torch.set_num_threads(threads)
            result = function()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            return result

        return run

    return [on_threads(function) for function in functions]


LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
