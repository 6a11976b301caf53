"""PyTorch with function transforms: `vmap` over tasks of `grad` of the inner loss, the whole step a
function of the parameters; `--compile` passes it through `torch.compile`."""

import sys

import torch
from torch.func import grad, grad_and_value, vmap

import torch_context
import torch_tables
from torch_networks import IMAGES, LAYOUTS, Network, adam, place, start, to_ours, with_threads
from workload import Workload, measure, options


# Losses of all tasks at once.
LOSSES = {**torch_context.LOSSES, **torch_tables.LOSSES}


def step_function(workload, network):
    """`(parameters, support x, support y, query x, query y)` to `(gradients, losses)`."""
    settings, tasks = workload.settings, workload.tasks

    def inner(p, x, y):
        gradients = grad(network.loss)(p, x, y)
        return {name: p[name] - settings["inner_lr"] * gradients[name] for name in p}

    def adapted(p, x, y):
        for _ in range(settings["inner_steps"]):
            p = inner(p, x, y)
        return p

    def second_order(p, xs, ys, xq, yq):
        def mean_loss(p):
            losses = vmap(lambda xs, ys, xq, yq: network.loss(adapted(p, xs, ys), xq, yq))(
                xs, ys, xq, yq
            )
            return losses.mean(), losses

        gradients, (_, losses) = grad_and_value(mean_loss, has_aux=True)(p)
        return gradients, losses

    def first_order(p, xs, ys, xq, yq):
        def task(xs, ys, xq, yq):
            return grad_and_value(network.loss)(adapted(p, xs, ys), xq, yq)

        gradients, losses = vmap(task)(xs, ys, xq, yq)
        return {name: gradient.mean(0) for name, gradient in gradients.items()}, losses

    def prototypes(p, xs, ys, xq, yq):
        def mean_loss(p):
            if tasks == 1:
                losses = network.prototype_loss(p, xs[0], xq[0], yq[0])[None]
            else:
                losses = vmap(lambda *task: network.prototype_loss(p, *task))(xs, xq, yq)
            return losses.mean(), losses

        gradients, (_, losses) = grad_and_value(mean_loss, has_aux=True)(p)
        return gradients, losses

    def all_tasks(p, xs, ys, xq, yq):
        def mean_loss(p):
            losses = LOSSES[workload.learner](workload, network, p, (xs, ys), (xq, yq))
            return losses.mean(), losses

        gradients, (_, losses) = grad_and_value(mean_loss, has_aux=True)(p)
        return gradients, losses

    def predict(p, xs, ys, xq, yq):
        def task(xs, ys, xq):
            fast = p
            for _ in range(settings["test_steps"]):
                fast = inner(fast, xs, ys)
            return network(fast, xq)

        return vmap(task)(xs, ys, xq)

    if workload.learner in LOSSES:
        if not workload.trains:
            sys.exit("there is nothing to transform; see torch-loop")
        return all_tasks
    if workload.learner in ("feat", "protonet"):
        return prototypes
    if workload.learner != "maml":
        sys.exit(f"{workload.learner} is not written here")
    if not workload.trains:
        return predict
    return second_order if settings["order"] == "second" else first_order


def variant(workload, network, compiled):
    step = step_function(workload, network)
    parameters = network.parameters()
    optimizer = adam(workload, list(parameters.values()))
    data = [network.inputs("support"), network.targets("support")]
    data += [network.inputs("query"), network.targets("query")]
    if compiled:
        step = torch.compile(step, fullgraph=True, dynamic=False)

    def run():
        if not workload.trains:
            return step(parameters, *data)
        gradients, losses = step(parameters, *data)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        optimizer.step()
        return losses

    def check():
        if not workload.trains:
            return workload.check_predictions(step(parameters, *data).cpu().numpy())
        gradients, losses = step(parameters, *data)
        gradients = {name: to_ours(name, value, workload.parameters) for name, value in gradients.items()}
        return workload.check_step(losses.cpu().numpy(), gradients)

    return check, run


def main():
    given = options()
    start(given)
    workload = Workload(given.folder, given.device)
    if workload.encoder in IMAGES:
        ways = {name: (given.threads, layout, "conv") for name, layout in LAYOUTS.items()}
        if workload.learner == "maml":
            ways["unfold"] = (given.threads, LAYOUTS["contiguous"], "unfold")
    else:
        # Operations this small can be faster on one thread.
        ways = {"all threads": (given.threads,), "1 thread": (1,)}
    # Whole recurrent layers know neither vmap nor second order.
    recurrence = "layer" if workload.learner == "protonet" else "cells"
    # Nor do the kernels of attention and of normalisation.
    how = {"transforms": True} if workload.learner == "maml" or workload.encoder in IMAGES else {"fused": True}
    variants = {
        name: lambda workload, way=way: with_threads(
            way[0],
            variant(
                workload,
                Network(workload, *way[1:], recurrence=recurrence, **how),
                given.compile,
            ),
        )
        for name, way in ways.items()
    }
    peer = "torch-compile" if given.compile else "torch-func"
    measure(peer, workload, variants, given, {"torch": torch.__version__}, place)


if __name__ == "__main__":
    main()
