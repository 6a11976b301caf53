"""Writes tables.json: answers of scikit-learn for tasks of the learners that tables are compared with.

    python -m venv venv && venv/bin/pip install numpy scipy scikit-learn
    venv/bin/python tables.py > tables.json

Trees are those of GradientBoostingClassifier and GradientBoostingRegressor (1.9: cuts by squared error). Leaves of
at least five rows keep two features from cutting a node into the same parts, between which scikit-learn draws lots.
Gaussian processes are GaussianProcessRegressor with fixed kernels; of `chosen` that of the largest
`log_marginal_likelihood_value_` among the grid.
"""

import json

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, WhiteKernel
from sklearn.neighbors import KNeighborsRegressor

FEATURES, SHOT, QUERY = 3, 20, 4
LENGTHS = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
NOISES = [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0]


def task(rng, way):
    count = way * SHOT
    centres = rng.normal(size=(way, FEATURES))
    draw = lambda n: np.round(np.repeat(centres, n, 0) + rng.normal(size=(way * n, FEATURES)), 4)
    x, q = draw(SHOT), draw(QUERY)
    value = np.round(np.sin(2 * x[:, 0]) + x[:, 1] ** 2 + 0.2 * rng.normal(size=count), 4)
    return {"support": x, "query": q, "labels": np.repeat(np.arange(way), SHOT), "values": value}


def trees(e, settings, classes):
    kind = GradientBoostingClassifier if classes else GradientBoostingRegressor
    model = kind(
        n_estimators=settings["trees"],
        learning_rate=settings["rate"],
        max_depth=settings["depth"],
        min_samples_leaf=settings["leaf_rows"],
        random_state=0,
    )
    model.fit(e["support"], e["labels"] if classes else e["values"])
    return model.predict_proba(e["query"]) if classes else model.predict(e["query"])


def kernels(e, settings):
    """The kernels of unit variance, by length scale."""
    x = e["support"]
    centre = x.mean(0)
    pairs = np.linalg.norm(x[:, None] - x[None], axis=2)[np.tril_indices(len(x), -1)]
    pairs = np.sort(pairs[pairs > 0])
    median = pairs[len(pairs) // 2]
    if settings["kernel"] == "linear":
        c = ((x - centre) ** 2).sum(1).mean()
        return [(lambda x: (x - centre) / np.sqrt(c), DotProduct(0.0, "fixed"))]
    lengths = [settings["length_scale"]] if "length_scale" in settings else LENGTHS
    of = {"rbf": lambda l: RBF(l), "matern": lambda l: Matern(l, nu=2.5)}[settings["kernel"]]
    return [(lambda x: x, of(length * median)) for length in lengths]


def process(e, settings, columns):
    """Mean and deviation at the queries for each column of targets."""
    noises = [settings["noise"]] if "noise" in settings else NOISES
    best = None
    for change, kernel in kernels(e, settings):
        for noise in noises:
            found, evidence = [], 0.0
            for y in columns:
                mean, deviation = y.mean(), y.std()
                z = (y - mean) / deviation
                x = change(e["support"])
                r = kernel(x) + noise * np.eye(len(z))
                a2 = z @ np.linalg.solve(r, z) / len(z)
                whole = ConstantKernel(a2) * kernel + WhiteKernel(a2 * noise)
                model = GaussianProcessRegressor(whole, alpha=0.0, optimizer=None).fit(x, z)
                evidence += model.log_marginal_likelihood_value_
                m, s = model.predict(change(e["query"]), return_std=True)
                found.append((mean + deviation * m, deviation * s))
            if best is None or evidence > best[0]:
                best = (evidence, found)
    return best[1]


def answer(e, name, settings, way):
    if name == "boosted_trees":
        return trees(e, settings, way > 1), None
    if name == "knn":
        model = KNeighborsRegressor(settings["neighbours"]).fit(e["support"], e["values"])
        return model.predict(e["query"]), None
    if way == 1:
        [(mean, deviation)] = process(e, settings, [e["values"]])
        return mean, deviation
    columns = [(e["labels"] == n).astype(float) for n in range(way)]
    scores = [norm.cdf((m - 0.5) / s) for m, s in process(e, settings, columns)]
    scores = np.stack(scores, 1)
    return scores / scores.sum(1, keepdims=True), None


TREES = {"trees": 20, "rate": 0.2, "depth": 2, "leaf_rows": 5}
CASES = [
    ("boosted_trees", TREES),
    ("gaussian_process", {"kernel": "rbf", "length_scale": 0.7, "noise": 0.1}),
    ("gaussian_process", {"kernel": "matern", "length_scale": 0.7, "noise": 0.1}),
    ("gaussian_process", {"kernel": "linear", "noise": 0.3}),
    ("gaussian_process", {"kernel": "rbf"}),
    ("gaussian_process", {"kernel": "linear"}),
    ("knn", {"neighbours": 3, "normalise": False}),
]

rng = np.random.default_rng(11)
sets = {way: [task(rng, way) for _ in range(2)] for way in (1, 2, 3)}
cases = []
for name, settings in CASES:
    for way, tasks in sets.items():
        if name == "knn" and way > 1:
            continue
        answers = [answer(e, name, settings, way) for e in tasks]
        case = {"learner": name, "settings": settings, "way": way}
        case["expected"] = np.stack([a for a, _ in answers]).ravel().tolist()
        if answers[0][1] is not None:
            case["deviations"] = np.stack([s for _, s in answers]).ravel().tolist()
        cases.append(case)
stored = {
    str(way): {key: np.stack([e[key] for e in tasks]).ravel().tolist() for key in ("support", "query", "values")}
    for way, tasks in sets.items()
}
print(json.dumps({"features": FEATURES, "shot": SHOT, "query": QUERY, "sets": stored, "cases": cases}))
