"""Writes `calibration.json`, the numbers of `meta-core/tests/derivatives/calibration.rs`, by scikit-learn
1.9.1 (pip install scikit-learn==1.9.1): class scores with their classes, the log-loss, the expected
calibration error from `calibration_curve`'s bins, the area under the ROC curve and the false positive rate at
a true positive rate of 95 %."""

import json
import pathlib

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

random = np.random.default_rng(7)
classes, queries, bins = 4, 300, 15
labels = random.integers(classes, size=queries)
scores = 2.5 * random.normal(size=(queries, classes))
scores[np.arange(queries), labels] += 2.0


def error(temperature):
    probabilities = softmax(scores / temperature, axis=1)
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    accuracy, confidence = calibration_curve(right, sure, n_bins=bins, strategy="uniform")
    counts = np.histogram(sure, np.linspace(0, 1, bins + 1))[0]
    return float(np.sum(counts[counts > 0] / queries * np.abs(accuracy - confidence)))


def loss(temperature):
    return float(log_loss(labels, softmax(scores / temperature, axis=1), labels=range(classes)))


best = minimize_scalar(lambda t: loss(np.exp(t)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
outside = np.round(2.5 * random.normal(size=(200, classes)), 1).max(1)
inside = np.round(scores, 1).max(1)
truth, both = np.r_[np.ones(queries), np.zeros(200)], np.r_[inside, outside]
false_rate, true_rate, _ = roc_curve(truth, both, drop_intermediate=False)
numbers = {
    "scores": scores.tolist(),
    "labels": labels.tolist(),
    "inside": inside.tolist(),
    "outside": outside.tolist(),
    "loss": loss(1.0),
    "error": error(1.0),
    "temperature": float(np.exp(best.x)),
    "loss_at_temperature": loss(np.exp(best.x)),
    "error_at_2": error(2.0),
    "auroc": float(roc_auc_score(truth, both)),
    "fpr95": float(false_rate[true_rate >= 0.95][0]),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
