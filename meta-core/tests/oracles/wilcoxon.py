"""Writes `wilcoxon.json`, the numbers of the tests of `meta-core/src/stats.rs`, by SciPy 1.17.1
(pip install scipy==1.17.1): two-sided p-values of the signed-rank test of counts, which SciPy gets as whole
numbers. Exact for up to 25 differences without ties once zeros are dropped, else normal with the
corrections for ties and continuity."""

import json
import pathlib

import numpy
from scipy.stats import wilcoxon

random = numpy.random.default_rng(3)
cases = []
for out_of in (3, 5, 15, 25, 49, 75, 300):
    for pairs in (2, 5, 12, 20, 25, 26, 60):
        for spread in (1, 3):
            middle = random.integers(0, out_of + 1, pairs)
            a = numpy.clip(middle + random.integers(-spread, spread + 2, pairs), 0, out_of)
            b = numpy.clip(middle + random.integers(-spread, spread + 1, pairs), 0, out_of)
            cases.append((out_of, a, b))
for pairs in (6, 12, 25):
    gaps = random.permutation(numpy.arange(1, pairs + 1)) * random.choice([1, 1, -1], pairs)
    a = numpy.maximum(gaps, 0)
    cases.append((2 * pairs, a, a - gaps))
answers = []
for out_of, a, b in cases:
    gaps = (a - b)[a != b]
    tied = len(numpy.unique(abs(gaps))) < len(gaps)
    if len(gaps) == 0:
        p = 1.0
    elif tied or len(gaps) > 25:
        p = wilcoxon(gaps, correction=True, method="asymptotic").pvalue
    else:
        p = wilcoxon(gaps, method="exact").pvalue
    answers.append({"out_of": out_of, "a": a.tolist(), "b": b.tolist(), "p": min(float(p), 1.0)})
text = ",\n".join(json.dumps(answer, separators=(",", ":")) for answer in answers)
pathlib.Path(__file__).with_suffix(".json").write_text(f"[{text}]\n")
