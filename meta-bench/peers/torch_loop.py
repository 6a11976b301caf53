"""PyTorch as learn2learn and higher use it: a loop over tasks, inner gradients by `autograd.grad` with
`create_graph`, one backward pass per task."""

import itertools
import sys

import torch

import torch_acting
import torch_context
import torch_recurrent
import torch_sequences
import torch_tables
from torch_networks import IMAGES, LAYOUTS, Network, adam, place, start, to_ours, with_threads
from workload import Workload, measure, options


def adapt(network, fast, x, y, lr, steps, second_order):
    """The parameters before the first step and after each."""
    names = list(fast)
    yield fast
    for _ in range(steps):
        loss = network.loss(fast, x, y)
        gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order)
        fast = {
            name: value - lr * gradient
            for (name, value), gradient in zip(fast.items(), gradients)
        }
        if not second_order:
            fast = {name: fast[name].detach().requires_grad_() for name in names}
        yield fast


class Maml:
    def __init__(self, workload, network):
        self.workload, self.network = workload, network
        self.parameters = {
            name: value.requires_grad_() for name, value in network.parameters().items()
        }
        self.optimizer = adam(workload, list(self.parameters.values()))
        self.support = network.inputs("support"), network.targets("support")
        self.query = network.inputs("query"), network.targets("query")

    def gradient(self):
        """Leaves the meta-gradient in `.grad` and returns the losses."""
        settings, leaves = self.workload.settings, list(self.parameters.values())
        second_order = settings["order"] == "second"
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for task in range(self.workload.tasks):
            x, y = self.support[0][task], self.support[1][task]
            for fast in adapt(
                self.network, self.parameters, x, y, settings["inner_lr"],
                settings["inner_steps"], second_order,
            ):
                pass
            loss = self.network.loss(fast, self.query[0][task], self.query[1][task])
            mean = loss / self.workload.tasks
            if second_order:
                mean.backward()
            else:
                for leaf, gradient in zip(leaves, torch.autograd.grad(mean, list(fast.values()))):
                    leaf.grad = gradient if leaf.grad is None else leaf.grad.add_(gradient)
            losses.append(loss.detach())
        return torch.stack(losses)


class Predict(Maml):
    def predictions(self):
        settings = self.workload.settings
        answers = []
        for task in range(self.workload.tasks):
            x, y = self.support[0][task], self.support[1][task]
            steps = adapt(
                self.network, self.parameters, x, y, settings["inner_lr"],
                settings["test_steps"], False,
            )
            *_, fast = steps
            with torch.no_grad():
                answers.append(self.network(fast, self.query[0][task]))
        return torch.stack(answers)


class PredictAll(Maml):
    def predictions(self):
        with torch.no_grad():
            return torch_tables.PREDICTIONS[self.workload.learner](
                self.workload, self.network, self.parameters, self.support, self.query
            )


class ProtoNet(Maml):
    def gradient(self):
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for task in range(self.workload.tasks):
            loss = self.network.prototype_loss(
                self.parameters, self.support[0][task], self.query[0][task], self.query[1][task]
            )
            (loss / self.workload.tasks).backward()
            losses.append(loss.detach())
        return torch.stack(losses)


class AllTasks(Maml):
    def gradient(self):
        self.optimizer.zero_grad(set_to_none=True)
        losses = LOSSES[self.workload.learner](
            self.workload, self.network, self.parameters, self.support, self.query
        )
        losses.mean().backward()
        return losses.detach()


class MetaLstm(Maml):
    def gradient(self):
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for task in range(self.workload.tasks):
            support, query = ([part[task] for part in parts] for parts in (self.support, self.query))
            loss = torch_recurrent.meta_lstm_loss(
                self.workload, self.network, self.parameters, support, query
            )
            (loss / self.workload.tasks).backward()
            losses.append(loss.detach())
        return torch.stack(losses)


# Losses of all tasks at once.
LOSSES = {"mann": torch_recurrent.mann_losses, **torch_context.LOSSES, **torch_tables.LOSSES}
LEARNERS = {"feat": ProtoNet, "maml": Maml, "meta_lstm": MetaLstm, "protonet": ProtoNet}
LEARNERS |= {name: AllTasks for name in LOSSES}


def variant(workload, memory_format=LAYOUTS["contiguous"], **options):
    if workload.learner == "mlc":
        return torch_sequences.variant(workload, adam)
    if workload.learner in torch_acting.LEARNERS:
        return torch_acting.variant(workload, adam)
    if workload.learner not in LEARNERS:
        sys.exit(f"{workload.learner} is not written here")
    network = Network(workload, memory_format, **options)
    if not workload.trains:
        together = workload.learner in torch_tables.PREDICTIONS
        learner = (PredictAll if together else Predict)(workload, network)

        def check_predictions():
            return workload.check_predictions(learner.predictions().cpu().numpy())

        return check_predictions, learner.predictions
    learner = LEARNERS[workload.learner](workload, network)

    def check():
        losses = learner.gradient()
        gradients = {
            name: to_ours(name, p.grad, workload.parameters)
            for name, p in learner.parameters.items()
        }
        return workload.check_step(losses.cpu().numpy(), gradients)

    def run():
        losses = learner.gradient()
        learner.optimizer.step()
        return losses

    return check, run


# Learners with attention of their own, and no gradient steps.
FUSED = ("anp", "in_context", "pfn", "tnp")


def kinds(workload):
    """The ways to write a network without images: words, and options of `Network`."""
    if workload.encoder in ("lstm", "bilstm", "gru"):
        # Whole layers where they suffice; at second order, and without them, cells.
        found = ["layer"] if workload.learner == "protonet" else ["layer", "cells"]
        return [([kind], {"recurrence": kind}) for kind in found]
    if workload.learner == "snail":
        return [(["shared support"], {}), (["a sequence for each query"], {"shared": False})]
    if workload.encoder in ("transformer", "set_transformer") or workload.learner in FUSED:
        return [(["fused attention"], {"fused": True}), (["written out"], {})]
    return [([], {})]


def main():
    given = options()
    start(given)
    workload = Workload(given.folder, given.device)
    counts = sorted({1, given.threads}, reverse=True)
    if workload.encoder in IMAGES:
        ways = {name: (given.threads, {"memory_format": layout}) for name, layout in LAYOUTS.items()}
    else:
        # Operations this small can be faster on one thread.
        ways = {
            ", ".join([*name, f"{count} threads"]): (count, options)
            for (name, options), count in itertools.product(kinds(workload), counts)
        }
    variants = {
        name: lambda workload, way=way: with_threads(way[0], variant(workload, **way[1]))
        for name, way in ways.items()
    }
    measure("torch-loop", workload, variants, given, {"torch": torch.__version__}, place)


if __name__ == "__main__":
    main()
