"""Optuna chooses the settings, `meta sweep serve` runs them: MAML's inner loop on sine waves.

    pip install optuna
    python meta-bench/optuna/optuna_tune.py --meta target/release/meta --trials 20

Every trial is a run folder like any other: what was run once, by Optuna or by hand, is not run again.
"""

import argparse
import json
import subprocess

import optuna


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta", default="meta", help="the binary")
    parser.add_argument("--manifest", default="experiments/tune-sinusoid.toml")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    server = subprocess.Popen(
        [arguments.meta, "sweep", "serve", arguments.manifest],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # The first line says what is measured, and which way is up.
    hello = json.loads(server.stdout.readline())
    sampler = optuna.samplers.TPESampler(seed=arguments.seed)
    study = optuna.create_study(direction=hello["direction"], sampler=sampler)
    for _ in range(arguments.trials):
        trial = study.ask()
        settings = {
            "learner.inner_lr": trial.suggest_float("inner_lr", 1e-4, 1.0, log=True),
            "learner.inner_steps": trial.suggest_int("inner_steps", 1, 5),
        }
        print(json.dumps({"id": trial.number, "settings": settings}), file=server.stdin, flush=True)
        answer = json.loads(server.stdout.readline())
        if answer["state"] == "finished":
            study.tell(trial, answer["value"])
        else:
            print(answer["error"])
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    server.stdin.close()
    server.wait()
    print(json.dumps({"best": study.best_params, hello["metric"]: study.best_value}))


if __name__ == "__main__":
    main()
