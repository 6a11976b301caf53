"""scikit-learn: logistic regression, fitted to one task after the other."""

import sys

import numpy
import sklearn
from sklearn.linear_model import LogisticRegression

import workload as shared

# Tight enough for predictions to be compared; the times are those of the default, 1e-4.
EXACT = 1e-10


def build(solver):
    def variant(work):
        labels = work.episodes["support.targets"].astype(int)
        supports, queries = (
            work.episodes[f"{part}.inputs"].reshape(work.tasks, -1, shared.features(work))
            for part in ("support", "query")
        )

        def predict(tolerance):
            answers = []
            for support, label, query in zip(supports, labels, queries):
                model = LogisticRegression(
                    C=work.settings["c"], solver=solver, tol=tolerance, max_iter=10_000
                )
                answers.append(model.fit(support, label).decision_function(query))
            return numpy.stack(answers)

        return lambda: work.check_predictions(predict(EXACT)), lambda: predict(1e-4)

    return variant


def main():
    given = shared.options()
    work = shared.Workload(given.folder)
    if work.learner != "logistic" or work.trains:
        sys.exit(f"scikit-learn has no {work.learner}")
    versions = {"scikit-learn": sklearn.__version__, "numpy": numpy.__version__}
    variants = {solver: build(solver) for solver in ("lbfgs", "newton-cg")}
    shared.measure("sklearn", work, variants, given, versions, lambda _: "cpu")


if __name__ == "__main__":
    main()
