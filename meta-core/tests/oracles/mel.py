"""Writes `mel.json`, the numbers of `meta-core/src/data/audio/mel.rs`, by NumPy 2 (pip install numpy): a log-mel
spectrogram of a chirp, from the definition.
"""

import json
import pathlib

import numpy as np

RATE, WINDOW, HOP, FILTERS = 8000, 100, 40, 7

if __name__ == "__main__":
    n = np.arange(300.0)
    samples = (np.sin(0.3 * n) + 0.5 * np.cos(0.05 * n * n / 10)).astype(np.float32).astype(float)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2 / WINDOW
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    at = np.fft.rfftfreq(WINDOW, 1 / RATE)
    triangles = np.array([np.interp(at, corners[m : m + 3], [0, 1, 0]) for m in range(FILTERS)])
    rows = np.log(np.maximum(power @ triangles.T, 1e-10))
    pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"rows": rows.flatten().tolist()}) + "\n")
