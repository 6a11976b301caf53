"""Reads an event file with TensorBoard's own reader: rising steps, and the values of metrics.jsonl.

Usage: python3 read_events.py RUN_FOLDER EVENT_FOLDER
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

run, events = sys.argv[1:]
found = EventAccumulator(events, size_guidance={"scalars": 0, "tensors": 0, "images": 0})
found.Reload()
with open(f"{run}/metrics.jsonl") as lines:
    metrics = [json.loads(line) for line in lines]


def mean(value):
    return value["mean"] if isinstance(value, dict) else value


for kind, name in [("train", "loss"), ("train", "score"), ("validation", "score")]:
    expected = [(line["iteration"], mean(line[name])) for line in metrics if line["kind"] == kind]
    scalars = found.Scalars(f"{kind}/{name}")
    steps = [scalar.step for scalar in scalars]
    assert all(a < b for a, b in zip(steps, steps[1:])), (kind, name, steps)
    assert steps == [step for step, _ in expected], (kind, name, steps)
    for scalar, (_, value) in zip(scalars, expected):
        # Scalars have single precision: 24 bits.
        assert abs(scalar.value - value) <= 2**-24 * abs(value), (kind, name, scalar, value)
assert b"name = " in found.Tensors("manifest/text_summary")[0].tensor_proto.string_val[0]
content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
assert start.hparams["learner.name"].string_value, start
print("read")
