"""JAX: the whole meta-iteration, Adam included, in one `jit`, with `vmap` over tasks.

Images are `[items, height, width, channels]` and convolution weights `[3, 3, in, out]`, the layout that
XLA's CPU backend is fastest with. A convolution with weights per task becomes a grouped one under
`vmap`, which is slow; the variant `patches` writes it as a matrix product of shifted images instead.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy
from jax import lax

from workload import Workload, measure, options


def from_ours(name, value):
    """A parameter without its task axis."""
    value = value[0]
    if name.endswith("conv.weight"):
        taps, inputs, outputs = value.shape
        kernel = int(taps**0.5)
        return value.reshape(kernel, kernel, inputs, outputs)
    return value if name.endswith("weight") else value[0]


class Network:
    def __init__(self, workload, convolution):
        self.workload = workload
        self.convolution = convolution
        self.has_head = "head.weight" in workload.parameters
        self.prefix = "encoder." if self.has_head else ""
        if not hasattr(self, workload.encoder):
            sys.exit(f"{workload.encoder} is not written here")
        self.encode = getattr(self, workload.encoder)

    def parameters(self):
        return {
            name: numpy.ascontiguousarray(from_ours(name, value))
            for name, value in self.workload.parameters.items()
        }

    def inputs(self, part):
        values = self.workload.episodes[f"{part}.inputs"]
        if self.workload.encoder == "conv4":
            item = self.workload.item
            values = values.reshape(
                *values.shape[:2], item["height"], item["width"], item["channels"]
            )
        return values

    def targets(self, part):
        values = self.workload.episodes[f"{part}.targets"]
        return values.astype(numpy.int32) if self.workload.classifies else values

    def __call__(self, p, x):
        features = self.encode(p, x)
        if not self.has_head:
            return features
        return features @ p["head.weight"] + p["head.bias"]

    def loss(self, p, x, y):
        predictions = self(p, x)
        if self.workload.classifies:
            return cross_entropy(predictions, y)
        return jnp.mean((predictions - y) ** 2)

    def linear(self, p, name, x):
        name = self.prefix + name
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def mlp(self, p, x):
        for layer in range(len(self.workload.encoder_settings["hidden"])):
            x = jax.nn.relu(self.linear(p, f"layers.{layer}", x))
        return x

    def conv4(self, p, x):
        for block in range(self.workload.encoder_settings["blocks"]):
            name = f"{self.prefix}blocks.{block}"
            x = self.conv(x, p[f"{name}.conv.weight"])
            mean = x.mean((0, 1, 2))
            variance = ((x - mean) ** 2).mean((0, 1, 2))
            scale = p[f"{name}.norm.gamma"] * lax.rsqrt(variance + self.workload.epsilon)
            x = jax.nn.relu((x - mean) * scale + p[f"{name}.norm.beta"])
            x = self.pool(x)
        return x.reshape(x.shape[0], -1)

    def conv(self, x, weight):
        if self.convolution == "conv":
            return lax.conv_general_dilated(
                x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        _, height, width, _ = x.shape
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [
            padded[:, row : row + height, column : column + width]
            for row in range(3)
            for column in range(3)
        ]
        return jnp.concatenate(shifted, -1) @ weight.reshape(-1, weight.shape[-1])

    @staticmethod
    def pool(x):
        # A maximum over a reshaped axis has a cheaper adjoint on CPU than reduce_window.
        b, height, width, c = x.shape
        height, width = height // 2, width // 2
        x = x[:, : 2 * height, : 2 * width].reshape(b, height, 2, width, 2, c)
        return jnp.maximum(
            jnp.maximum(x[:, :, 0, :, 0], x[:, :, 0, :, 1]),
            jnp.maximum(x[:, :, 1, :, 0], x[:, :, 1, :, 1]),
        )

    def attention(self, p, x):
        settings, item = self.workload.encoder_settings, self.workload.item
        patch, heads, d = settings["patch"], settings["heads"], settings["width"]
        rows, columns = item["height"] // patch, item["width"] // patch
        b = x.shape[0]
        x = x.reshape(b, rows, patch, columns, patch * item["channels"])
        x = x.swapaxes(2, 3).reshape(b, rows * columns, -1)
        x = self.linear(p, "embedding", x)
        x = x + p[f"{self.prefix}positions"].reshape(rows * columns, d)
        for layer in range(settings["layers"]):
            block = f"blocks.{layer}"
            normalised = self.layer_norm(p, f"{block}.attention_norm", x)
            x = x + self.self_attention(p, f"{block}.attention", heads, normalised)
            normalised = self.layer_norm(p, f"{block}.feed_forward_norm", x)
            hidden = jax.nn.relu(self.linear(p, f"{block}.expand", normalised))
            x = x + self.linear(p, f"{block}.contract", hidden)
        return self.layer_norm(p, "norm", x).mean(1)

    def layer_norm(self, p, name, x):
        name = self.prefix + name
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        normalised = (x - mean) * lax.rsqrt(variance + self.workload.epsilon)
        return normalised * p[f"{name}.gamma"] + p[f"{name}.beta"]

    def self_attention(self, p, name, heads, x):
        b, length, d = x.shape
        query, key, value = (
            self.linear(p, f"{name}.{part}", x).reshape(b, length, heads, d // heads)
            for part in ("query", "key", "value")
        )
        scores = jnp.einsum("blhd,bmhd->bhlm", query, key) * (d // heads) ** -0.5
        read = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(scores), value)
        return self.linear(p, f"{name}.output", read.reshape(b, length, d))

    def prototype_loss(self, p, support, query, labels):
        way, shot = self.workload.way, self.workload.shot
        features = self(p, jnp.concatenate([support, query]))
        prototypes = features[: way * shot].reshape(way, shot, -1).mean(1)
        query = features[way * shot :]
        distances = (
            (query**2).sum(1, keepdims=True)
            - 2 * query @ prototypes.T
            + (prototypes**2).sum(1)
        )
        return cross_entropy(-distances, labels)


def cross_entropy(logits, labels):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -picked.mean()


def meta_gradient(workload, network):
    """`(parameters, support x, support y, query x, query y)` to `(gradients, losses)`."""
    settings = workload.settings

    def adapted(p, x, y, steps):
        for _ in range(steps):
            gradients = jax.grad(network.loss)(p, x, y)
            p = {name: p[name] - settings["inner_lr"] * gradients[name] for name in p}
            yield p

    def last(p, x, y):
        *_, p = adapted(p, x, y, settings["inner_steps"])
        return p

    def outer(task):
        def mean_loss(p, *data):
            losses = jax.vmap(functools.partial(task, p))(*data)
            return losses.mean(), losses

        gradient = jax.grad(mean_loss, has_aux=True)
        return lambda p, *data: gradient(p, *data)

    if not workload.trains:

        def predict(p, xs, ys, xq, yq):
            def task(xs, ys, xq):
                *_, fast = adapted(p, xs, ys, settings["test_steps"])
                return network(fast, xq)

            return jax.vmap(task)(xs, ys, xq)

        return predict
    if workload.learner not in ("maml", "protonet"):
        sys.exit(f"{workload.learner} is not written here")
    if workload.learner == "protonet":
        return outer(lambda p, xs, ys, xq, yq: network.prototype_loss(p, xs, xq, yq))
    if settings["order"] == "second":
        return outer(lambda p, xs, ys, xq, yq: network.loss(last(p, xs, ys), xq, yq))

    def first_order(p, *data):
        def task(xs, ys, xq, yq):
            loss, gradients = jax.value_and_grad(network.loss)(last(p, xs, ys), xq, yq)
            return gradients, loss

        gradients, losses = jax.vmap(task)(*data)
        return {name: value.mean(0) for name, value in gradients.items()}, losses

    return first_order


def adam(workload, p, gradients, state):
    step, first, second = state
    beta1, beta2 = workload.adam["beta1"], workload.adam["beta2"]
    step = step + 1
    first = {name: beta1 * first[name] + (1 - beta1) * gradients[name] for name in p}
    second = {name: beta2 * second[name] + (1 - beta2) * gradients[name] ** 2 for name in p}
    new = {}
    for name in p:
        root = jnp.sqrt(second[name] / (1 - beta2**step)) + workload.adam["epsilon"]
        new[name] = p[name] - workload.outer_lr * (first[name] / (1 - beta1**step)) / root
    return new, (step, first, second)


def variant(workload, convolution):
    network = Network(workload, convolution)
    data = [network.inputs("support"), network.targets("support")]
    data += [network.inputs("query"), network.targets("query")]
    if workload.device == "cuda" and not workload.is_double:
        data = jax.device_put(data)
    gradient = meta_gradient(workload, network)
    parameters = network.parameters()
    double = workload.is_double
    if not workload.trains:
        predict = jax.jit(gradient)

        def check():
            with jax.enable_x64(double):
                answers = predict(on_device(parameters), *data)
            return workload.check_predictions(numpy.asarray(answers))

        now = on_device(parameters) if not double else None
        return check, lambda: predict(now, *data).block_until_ready()

    # State is donated: its memory is used again for the next.
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def iteration(p, state, *data):
        gradients, losses = gradient(p, *data)
        return *adam(workload, p, gradients, state), losses

    def check():
        with jax.enable_x64(double):
            gradients, losses = jax.jit(gradient)(on_device(parameters), *data)
        gradients = {name: numpy.asarray(value) for name, value in gradients.items()}
        return workload.check_step(numpy.asarray(losses), gradients)

    if double:
        return check, None
    zeros = lambda: {name: jnp.zeros_like(value) for name, value in parameters.items()}
    now = {"state": (on_device(parameters), (jnp.zeros(()), zeros(), zeros()))}

    def run():
        p, state, losses = iteration(*now["state"], *data)
        now["state"] = jax.block_until_ready((p, state))
        return losses

    return check, run


def on_device(parameters):
    return {name: jnp.array(value) for name, value in parameters.items()}


def place(array):
    """The kind of device that an array lies on."""
    (device,) = array.devices()
    return {"gpu": "cuda"}.get(device.platform, device.platform)


def main():
    given = options()
    jax.config.update("jax_platforms", given.device)
    # f32 where f32 is said: no TF32.
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        sys.exit(f"JAX sees no {given.device} device {error}".strip())
    workload = Workload(given.folder, given.device)
    convolutions = ["conv"]
    if workload.encoder == "conv4":
        convolutions = ["patches", "conv"] if workload.learner == "maml" else ["conv", "patches"]
    variants = {
        name: lambda workload, name=name: variant(workload, name) for name in convolutions
    }
    measure("jax", workload, variants, given, {"jax": jax.__version__}, place)


if __name__ == "__main__":
    sys.exit(main())
