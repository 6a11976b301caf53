"""Writes baselines.json: scores of baselines by scikit-learn, and by PyTorch and NumPy from the papers.

    python -m venv venv && venv/bin/pip install numpy scikit-learn torch
    venv/bin/python baselines.py > baselines.json

Every task is computed alone, item by item where the papers say "for each".
"""

import json
import math

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

WAY, QUERY = 3, 4


def episode(rng, shot, features):
    centres = rng.normal(size=(WAY, features))
    draw = lambda count: np.concatenate(
        [c + 0.8 * rng.normal(size=(count, features)) for c in centres]
    )
    return {
        "support": np.round(draw(shot), 6),
        "query": np.round(draw(QUERY), 6),
        "classes": np.round(rng.normal(size=(WAY, features)), 6),
        "labels": np.repeat(np.arange(WAY), shot),
    }


def rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def means(e):
    return np.stack([e["support"][e["labels"] == n].mean(0) for n in range(WAY)])


def one_hot(e):
    return np.eye(WAY)[e["labels"]]


def transformed(e, mean=None, normalise=False):
    change = lambda x: x if mean is None else x - mean
    unit = rows if normalise else lambda x: x
    return {**e, "support": unit(change(e["support"])), "query": unit(change(e["query"]))}


# scikit-learn


def nearest_centroid(e):
    centroids = NearestCentroid().fit(e["support"], e["labels"]).centroids_
    return -((e["query"][:, None] - centroids[None]) ** 2).sum(2)


def knn(e, k, weights="uniform"):
    model = KNeighborsClassifier(k, weights=weights).fit(e["support"], e["labels"])
    return model.predict_proba(e["query"])


def lda(e, gamma):
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=gamma)
    return model.fit(e["support"], e["labels"]).decision_function(e["query"])


def logistic(e, c):
    model = LogisticRegression(C=c, solver="newton-cg", tol=1e-14, max_iter=100_000)
    return model.fit(e["support"], e["labels"]).predict_proba(e["query"])


# The papers' equations


def simple_cnaps(e):
    scores = np.zeros((len(e["query"]), WAY))
    task = np.cov(e["support"].T)
    for n in range(WAY):
        own = e["support"][e["labels"] == n]
        share = len(own) / (len(own) + 1)
        cov = np.cov(own.T) if len(own) > 1 else np.zeros_like(task)
        inverse = np.linalg.inv(share * cov + (1 - share) * task + np.eye(len(task)))
        for i, x in enumerate(e["query"]):
            scores[i, n] = -(x - own.mean(0)) @ inverse @ (x - own.mean(0))
    return scores


def tip_adapter(e, alpha, beta, classes, steps=0, lr=1e-3):
    tensor = lambda x: torch.tensor(x, dtype=torch.float64)
    support, query = tensor(rows(e["support"])), tensor(rows(e["query"]))
    values, weights = tensor(one_hot(e)), tensor(rows(e["classes"]))
    keys = support.clone().requires_grad_()

    def logits(x):
        cached = alpha * torch.exp(-beta * (1 - x @ keys.T)) @ values
        return cached + 100 * x @ weights.T if classes else cached

    if steps:
        optimizer = torch.optim.AdamW([keys], lr=lr, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            loss = torch.nn.functional.cross_entropy(logits(support), tensor(e["labels"]).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return logits(query).detach().numpy()


def descended(e, start, scores, steps, lr, decay):
    parameters = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in start]
    tensor = lambda x: torch.tensor(x, dtype=torch.float64)
    optimizer = torch.optim.SGD(
        parameters, lr=lr, momentum=0.9, dampening=0.9, weight_decay=decay
    )
    for _ in range(steps):
        answers = scores(tensor(e["support"]), *parameters)
        loss = torch.nn.functional.cross_entropy(answers, torch.tensor(e["labels"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return scores(tensor(e["query"]), *parameters).detach().numpy()


def baseline(e, steps, lr, decay):
    start = [np.zeros((e["support"].shape[1], WAY)), np.zeros(WAY)]
    return descended(e, start, lambda x, w, b: x @ w + b, steps, lr, decay)


def baseline_pp(e, scale, steps, lr, decay):
    cosine = torch.nn.functional.cosine_similarity
    scores = lambda x, w: scale * cosine(x[:, None], w[None], dim=2)
    return descended(e, [means(e)], scores, steps, lr, decay)


def laplacian_shot(e, weight, neighbours, updates):
    query, prototypes = e["query"], means(e)
    q = len(query)
    unary = np.array([[np.sum((x - m) ** 2) for m in prototypes] for x in query])
    affinity = np.zeros((q, q))
    for i in range(q):
        order = np.argsort([np.sum((query[i] - x) ** 2) for x in query])
        for j in order[1:neighbours]:
            affinity[i, j] = 1
    y = softmax(-unary)
    for _ in range(updates):
        y = softmax(-unary + weight * affinity @ y)
    return np.log(y)


def bd_cspn(e, scale, most):
    support, prototypes = e["support"], means(e)
    query = e["query"] + (support.mean(0) - e["query"].mean(0))
    cosine = lambda a, b: a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    similar = np.array([[scale * cosine(x, p) for p in prototypes] for x in query])
    confidence, label = softmax(similar).max(1), similar.argmax(1)
    rectified = []
    for n in range(WAY):
        own = [i for i in np.argsort(-confidence) if label[i] == n][:most]
        items = list(support[e["labels"] == n]) + [query[i] for i in own]
        weights = np.array([math.exp(scale * cosine(x, prototypes[n])) for x in items])
        rectified.append(sum(w * x for w, x in zip(weights / weights.sum(), items)))
    return np.array([[scale * cosine(x, p) for p in rectified] for x in query])


def tim(e, tau, lam, alpha, updates):
    support, query, y, w = e["support"], e["query"], one_hot(e), means(e)
    share = lambda x: softmax(
        np.array([[-tau / 2 * np.sum((a - b) ** 2) for b in w] for a in x])
    )
    ratio = len(support) / len(query)
    for _ in range(updates):
        p_s, p_q = share(support), share(query)
        q = p_q ** (1 + alpha) / np.sqrt((p_q ** (1 + alpha)).sum(0))
        q /= q.sum(1, keepdims=True)
        new = np.zeros_like(w)
        for n in range(WAY):
            top = lam / (1 + alpha) * sum(
                y[i, n] * x + p_s[i, n] * (w[n] - x) for i, x in enumerate(support)
            )
            top = top + ratio * sum(
                q[i, n] * x + p_q[i, n] * (w[n] - x) for i, x in enumerate(query)
            )
            new[n] = top / (lam / (1 + alpha) * y[:, n].sum() + ratio * q[:, n].sum())
        w = new
    return np.array([[-tau / 2 * np.sum((a - b) ** 2) for b in w] for a in query])


def pt_map(e, power, lam, alpha, updates, sinkhorn):
    def change(x):
        x = np.where(x < 0, -1.0, 1.0) * (np.abs(x) + 1e-6) ** power
        return rows(rows(x) - rows(x).mean(0))

    support, query, y = change(e["support"]), change(e["query"]), one_hot(e)
    centres = means({**e, "support": support})

    def plan():
        cost = np.array([[np.sum((x - c) ** 2) for c in centres] for x in query])
        p = np.exp(-lam * cost)
        for _ in range(sinkhorn):
            p = p / p.sum(1, keepdims=True)
            p = p * (len(query) / WAY) / p.sum(0, keepdims=True)
        return p

    for _ in range(updates):
        p = np.concatenate([y, plan()])
        x = np.concatenate([support, query])
        estimate = np.array([p[:, n] @ x / p[:, n].sum() for n in range(WAY)])
        centres = centres + alpha * (estimate - centres)
    return np.log(plan())


def main():
    rng = np.random.default_rng(17)
    shapes = {"wide": (3, 12), "narrow": (3, 4), "one shot": (1, 5)}
    sets = {name: [episode(rng, *shape) for _ in range(2)] for name, shape in shapes.items()}
    averages = {
        name: np.round(rng.normal(size=features), 6) for name, (_, features) in shapes.items()
    }
    cases = []

    def case(learner, settings, oracle, compare="scores", sets_of=("wide", "narrow")):
        for name in sets_of:
            expected = [oracle(e, averages[name]) for e in sets[name]]
            cases.append(
                {
                    "learner": learner,
                    "settings": settings,
                    "set": name,
                    "compare": compare,
                    "expected": np.stack(expected).ravel().tolist(),
                }
            )

    every = ("wide", "narrow", "one shot")
    for centre in ["none", "support", "training"]:
        for normalise in [False, True]:
            mean = {
                "none": lambda e, m: None,
                "support": lambda e, m: e["support"].mean(0),
                "training": lambda e, m: m,
            }[centre]
            case(
                "nearest_centroid",
                {"centre": centre, "normalise": normalise},
                lambda e, m: nearest_centroid(transformed(e, mean(e, m), normalise)),
                sets_of=every,
            )
    for k in [1, 3]:
        case(
            "knn",
            {"neighbours": k, "normalise": False},
            lambda e, m: knn(e, k),
            compare="probabilities",
        )
    case(
        "knn",
        {"neighbours": 3, "normalise": True},
        lambda e, m: knn(transformed(e, normalise=True), 3),
        compare="probabilities",
    )
    case(
        "knn",
        {"neighbours": 3, "votes": "distance", "normalise": False},
        lambda e, m: knn(e, 3, "distance"),
        compare="probabilities",
    )
    for gamma in [0.01, 0.3, 1.0]:
        case("lda", {"shrinkage": gamma}, lambda e, m: lda(e, gamma))
    case("lda", {"covariance": "class"}, lambda e, m: simple_cnaps(e), sets_of=every)
    for c in [0.01, 1.0, 100.0]:
        case(
            "logistic",
            {"c": c},
            lambda e, m: logistic(e, c),
            compare="probabilities",
            sets_of=every,
        )
    for classes in [False, True]:
        compare = "scores with class vectors" if classes else "scores"
        case(
            "tip_adapter",
            {"alpha": 1.5, "beta": 5.5},
            lambda e, m: tip_adapter(e, 1.5, 5.5, classes),
            compare=compare,
        )
        case(
            "tip_adapter",
            {"fine_tune": True, "steps": 7, "lr": 0.02},
            lambda e, m: tip_adapter(e, 1.0, 5.5, classes, 7, 0.02),
            compare=compare,
        )
    case(
        "baseline",
        {"steps": 20, "lr": 0.3, "weight_decay": 0.01},
        lambda e, m: baseline(e, 20, 0.3, 0.01),
    )
    case(
        "baseline_pp",
        {"scale": 4.0, "steps": 20, "lr": 0.3, "weight_decay": 0.01},
        lambda e, m: baseline_pp(e, 4.0, 20, 0.3, 0.01),
    )
    case(
        "laplacian_shot",
        {"lambda": 0.7, "neighbours": 4, "updates": 20},
        lambda e, m: laplacian_shot(transformed(e, m, True), 0.7, 4, 20),
        sets_of=every,
    )
    case(
        "bd_cspn",
        {"pseudo_labels": 2},
        lambda e, m: bd_cspn(transformed(e, normalise=True), 10.0, 2),
        sets_of=every,
    )
    case(
        "tim",
        {"updates": 30},
        lambda e, m: tim(transformed(e, normalise=True), 15.0, 0.1, 0.1, 30),
        sets_of=every,
    )
    case(
        "pt_map",
        {"updates": 5, "sinkhorn": 50},
        lambda e, m: pt_map(e, 0.5, 10.0, 0.2, 5, 50),
        sets_of=every,
    )
    data = {
        name: {
            "shot": shapes[name][0],
            "features": shapes[name][1],
            "mean": averages[name].tolist(),
            **{
                key: np.stack([e[key] for e in tasks]).ravel().tolist()
                for key in ["support", "query", "classes"]
            },
        }
        for name, tasks in sets.items()
    }
    print(json.dumps({"sets": data, "cases": cases}, indent=1))


main()
