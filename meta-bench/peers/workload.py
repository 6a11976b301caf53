"""What all peers share: reading a workload, checking the first step, measuring, printing.

A workload is a folder that `meta bench --export` wrote. A peer computes the first step in f64,
compares loss and meta-gradient (or predictions) with those in the folder, and prints times in f32, as
one line of JSON, only when they agree.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy
from safetensors.numpy import load_file

FEWEST_SAMPLES = 3
WARM_UP = 2
WARM_UP_SECONDS = 0.3


class Workload:
    """The files of a workload."""

    def __init__(self, folder, device="cpu", double=False):
        folder = pathlib.Path(folder)
        self.folder, self.device, self.is_double = folder, device, double
        self.description = json.loads((folder / "workload.json").read_text())
        if self.description["format"] != 1:
            sys.exit(f"{folder}: format {self.description['format']}, expected 1")
        self.parameters = load_file(folder / "parameters.safetensors")
        self.episodes = load_file(folder / "episodes.safetensors")
        self.first_step = load_file(folder / "first_step.safetensors")
        if double:
            self.parameters = in_double(self.parameters)
            self.episodes = in_double(self.episodes)
        self.limit = self.description["agreement"]["relative" if double else "relative_f32"]
        self.name = self.description["name"]
        self.trains = self.description["kind"] == "train"
        self.classifies = self.description["task"] == "classification"
        self.tasks = self.description["tasks"]
        self.way = self.description["episode"]["way"]
        self.shot = self.description["episode"]["shot"]
        self.learner = self.description["learner"]["name"]
        self.settings = self.description["learner"]["settings"]
        self.encoder = self.description["encoder"]["name"]
        self.encoder_settings = self.description["encoder"]["settings"]
        self.epsilon = self.description["encoder"]["norm_epsilon"]
        self.item = self.description["item"]
        self.outer_lr = self.description["outer"]["lr"]
        self.adam = self.description["outer"]["settings"]

    def check_step(self, losses, gradients):
        """Relative differences of losses `[t]` and gradients (by name, our layout) from ours."""
        expected = {
            name.removeprefix("gradient/"): value.astype(numpy.float64)
            for name, value in self.first_step.items()
            if name.startswith("gradient/")
        }
        floor = self.description["agreement"]["floor"]
        whole = numpy.sqrt(sum(numpy.sum(value**2) for value in expected.values()))
        worst, where = 0.0, ""
        for name, value in expected.items():
            # What is not learned, a moving average, has none.
            found = gradients.get(name, numpy.zeros_like(value)).reshape(value.shape)
            difference = numpy.linalg.norm(found - value)
            error = difference / max(numpy.linalg.norm(value), floor * whole)
            if not error <= worst:
                worst, where = float(error), name
        loss_error = relative(losses, self.first_step["losses"])
        self.require("loss", loss_error)
        self.require(f"gradient of {where}", worst)
        return loss_error, worst

    def check_predictions(self, predictions):
        """The same for the predictions after the last inner step."""
        error = relative(predictions, self.first_step["predictions"])
        self.require("predictions", error)
        return error, error

    def double(self):
        """The same in f64."""
        return Workload(self.folder, self.device, double=True)

    def require(self, what, error):
        if not error <= self.limit:
            raise Disagreement(
                f"{self.name}: {what} differs by {error:.1e} from the exported, "
                f"limit {self.limit:.0e}"
            )


class Disagreement(Exception):
    """The peer computes something else."""


def features(work):
    """Numbers of an item."""
    return work.item["height"] * work.item["width"] * work.item["channels"]


def in_double(tensors):
    return {name: value.astype(numpy.float64) for name, value in tensors.items()}


def relative(found, expected):
    """`‖found − expected‖ / ‖expected‖`."""
    expected = expected.astype(numpy.float64)
    difference = numpy.linalg.norm(numpy.asarray(found).reshape(expected.shape) - expected)
    return float(difference / numpy.linalg.norm(expected))


def peak_bytes():
    """Peak resident memory of this process, where the system tells it."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(lines[0].split()[1]) if lines else None


def options():
    """What `meta bench --peers` asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--variant", help="measure this way to write it [default: the fastest]")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument(
        "--launches",
        action="store_true",
        help="count what PyTorch launches in one iteration: kernels on a GPU, operators on a CPU",
    )
    return parser.parse_args()


def seconds_of(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def samples_ms(run, samples, seconds):
    """Milliseconds of each call of `run`, after warm-up."""
    start = time.perf_counter()
    warmed = 0
    while warmed < WARM_UP or time.perf_counter() - start < WARM_UP_SECONDS:
        run()
        warmed += 1
    start = time.perf_counter()
    times = []
    while len(times) < min(samples, FEWEST_SAMPLES) or (
        len(times) < samples and time.perf_counter() - start < seconds
    ):
        times.append(1e3 * seconds_of(run))
    return times


# Operators that only look at memory in another way, or ask for some.
VIEWS = {
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "permute",
    "reshape", "resize_", "select", "slice", "split", "squeeze", "t", "transpose", "unbind", "unfold",
    "unsafe_view", "unsqueeze", "view", "_unsafe_view", "_reshape_alias", "lift_fresh", "result_type",
    "to", "is_nonzero", "item", "_local_scalar_dense",
}


def launches(run):
    """Kernels that one call of `run` launches on a GPU; on a CPU the operators that compute something
    and call no other, each of which is at least one kernel on a GPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    run()
    with profile(activities=activities) as profiler:
        run()
    events = profiler.events()
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    if on_gpu and kernels:
        return len(kernels)
    operators = [event for event in events if event.name.startswith("aten::")]

    def computes(event):
        return event.name.removeprefix("aten::") not in VIEWS

    def calls_others(event):
        return any(child.name.startswith("aten::") and computes(child) for child in event.cpu_children)

    return sum(computes(event) and not calls_others(event) for event in operators)


def measure(peer, workload, variants, given, versions, place):
    """Checks and measures the fastest of `variants` and prints the result.

    `variants` maps a name to a function of a workload that returns `(check, run)`: `check()` computes
    the first step and compares it, `run()` does one iteration, waits for it, and returns something that it
    computed, of which `place` tells the device.
    """
    if given.launches:
        if not peer.startswith("torch"):
            sys.exit(f"--launches counts what PyTorch launches, not {peer}")
        for name, variant in variants.items():
            _, run = variant(workload)
            print(json.dumps({"workload": workload.name, "variant": name, "launches": launches(run)}))
        return
    start_bytes = peak_bytes()
    names = [given.variant] if given.variant else list(variants)
    candidates, reasons = [], []
    for name in names:
        try:
            check, run = variants[name](workload)
            f32_error = check()[1]
            run()
            seconds = min(seconds_of(run) for _ in range(2))
            candidates.append((seconds, name, f32_error, run))
        except Exception as error:  # another variant may do
            first_line = (str(error).strip() or repr(error)).splitlines()[0]
            reasons.append(f"{name}: {first_line}")
    if not candidates:
        sys.exit("; ".join(reasons))
    _, name, f32_error, run = min(candidates, key=lambda candidate: candidate[0])
    times = samples_ms(run, given.samples, given.seconds)
    device = place(run())
    if device != given.device:
        sys.exit(f"computed on {device}, not on {given.device}")
    peak = peak_bytes()
    # Last, for its memory is not that of the workload; and once, at the first turn.
    errors = (None, None)
    if not given.variant:
        check, _ = variants[name](workload.double())
        errors = check()
    result = {
        "peer": peer,
        "workload": workload.name,
        "variant": name,
        "loss_error": errors[0],
        "gradient_error": errors[1],
        "f32_error": f32_error,
        "samples_ms": times,
        "start_bytes": start_bytes,
        "peak_bytes": peak,
        "versions": versions,
        "threads": given.threads,
        "dtype": "f32",
        "device": device,
    }
    print(json.dumps(result))
