"""The networks and losses of the workloads in PyTorch, as functions of a dictionary of parameters.

Parameters have no task axis here. Convolution weights are `[out, in, 3, 3]` and images
`[items, channels, height, width]`, as PyTorch's convolutions want them; linear weights stay
`[in, out]`.
"""

import sys

import torch
import torch.nn.functional as F

import torch_attention
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


def is_buffer(name):
    """Whether a parameter of ours is a moving average, which nobody learns."""
    return name.endswith(("running_mean", "running_variance"))


def to_ours(name, value, parameters):
    """A gradient in the exported layout."""
    value = value.detach()
    if torch_recurrent.of_layer(name):
        value = torch_recurrent.to_ours(name, value, parameters)
    if name.endswith("conv.weight"):
        value = value.permute(2, 3, 1, 0)
    return value.contiguous().cpu().numpy()


IMAGES = ("conv4", "resnet12")


class Network:
    """The workload's network, with the head where it has one.

    `transforms`: for function transforms; `recurrence`: whole layers or cells; `fused`: attention by PyTorch's
    kernels, which are not twice differentiable; `shared`: a support is read once for all its queries.
    """

    def __init__(
        self,
        workload,
        memory_format=torch.contiguous_format,
        convolution="conv",
        transforms=False,
        recurrence="layer",
        fused=False,
        shared=True,
    ):
        self.workload = workload
        self.transforms = transforms
        self.recurrence = recurrence
        self.memory_format = memory_format
        self.convolution = convolution
        self.fused, self.shared = fused, shared
        self.has_head = "head.weight" in workload.parameters
        within = any(name.startswith("encoder.") for name in workload.parameters)
        self.prefix = "encoder." if within else ""
        self.encode = getattr(self, workload.encoder)
        self.positions = None
        self.buffers = self.tensors(lambda name: is_buffer(name))

    def parameters(self):
        """Fresh copies of the initial parameters."""
        return self.tensors(lambda name: not is_buffer(name))

    def tensors(self, wanted):
        tensors = {
            name: from_ours(name, value, self.workload.parameters).to(self.workload.device)
            for name, value in self.workload.parameters.items()
            if wanted(name)
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
        if self.workload.encoder not in IMAGES:
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
        weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
        if self.transforms:
            return x @ weight + bias
        return F.linear(x, weight.T, bias)

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
            x = F.max_pool2d(F.relu(self.conv_norm(p, name, x)), 2)
        return x.permute(0, 2, 3, 1).flatten(1)

    def resnet12(self, p, x):
        for stage in range(len(self.workload.encoder_settings["widths"])):
            name = f"{self.prefix}stages.{stage}"
            shortcut = self.conv_norm(p, f"{name}.shortcut", x)
            for number in range(3):
                x = x if number == 0 else F.leaky_relu(x, 0.1)
                x = self.conv_norm(p, f"{name}.convs.{number}", x)
            x = F.max_pool2d(F.leaky_relu(x + shortcut, 0.1), 2)
        return x.permute(0, 2, 3, 1).flatten(1)

    def conv_norm(self, p, name, x):
        x = self.conv(x, p[f"{name}.conv.weight"])
        gamma, beta = p[f"{name}.norm.gamma"], p[f"{name}.norm.beta"]
        epsilon = self.workload.epsilon
        if not self.transforms:
            moments = [self.buffers.get(f"{name}.norm.running_{part}") for part in ("mean", "variance")]
            return F.batch_norm(x, *moments, gamma, beta, training=True, eps=epsilon)
        # Under torch.func the second derivative of F.batch_norm is wrong in PyTorch 2.9 (by percents,
        # in f64, against torch.autograd): written out.
        centred = x - x.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale = gamma[:, None, None] * torch.rsqrt(variance + epsilon)
        return torch.addcmul(beta[:, None, None], centred, scale)

    def conv(self, x, weight):
        kernel = weight.shape[-1]
        if self.convolution == "conv":
            return F.conv2d(x, weight, padding=kernel // 2)
        # A matrix product per task, which batches over tasks where a convolution does not.
        b, _, height, width = x.shape
        columns = F.unfold(x, kernel, padding=kernel // 2)
        return (weight.flatten(1) @ columns).unflatten(2, (height, width))

    def identity(self, p, x):
        return x

    def attention(self, p, x):
        return torch_attention.attention(self, p, x)

    def transformer(self, p, x):
        return torch_attention.transformer(self, p, x)

    def set_transformer(self, p, x):
        return torch_attention.set_transformer(self, p, x)

    def layer_norm(self, p, name, x):
        gamma, beta = p[f"{name}.gamma"], p[f"{name}.beta"]
        if not self.transforms:
            return F.layer_norm(x, x.shape[-1:], gamma, beta, self.workload.epsilon)
        # As in conv_norm.
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.workload.epsilon) * gamma + beta

    def prototype_loss(self, p, support, query, labels):
        """Cross-entropy of −‖φ(x) − c‖², support and query normalised together."""
        way, shot = self.workload.way, self.workload.shot
        features = self(p, torch.cat([support, query]))
        prototypes = features[: way * shot].unflatten(0, (way, shot)).mean(1)
        temperature = 1.0
        if self.workload.learner == "feat":
            heads, temperature = (self.workload.settings[key] for key in ("heads", "temperature"))
            read = torch_attention.attend(self, p, "attention", heads, prototypes[None], prototypes[None])
            prototypes = self.layer_norm(p, "norm", prototypes + read[0])
        query = features[way * shot :]
        distances = (
            query.square().sum(1, keepdim=True)
            - 2 * query @ prototypes.T
            + prototypes.square().sum(1)
        )
        return F.cross_entropy(-distances / temperature, labels)


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
