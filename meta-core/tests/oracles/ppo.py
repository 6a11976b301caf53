"""Writes `ppo.json`, the numbers of `learner/acting/ppo.rs`, by PyTorch 2.15.0: generalised advantages,
the loss of proximal policy optimisation with its gradient, and divergences, in double precision.
"""

import json
import pathlib

import torch
from torch.distributions import Categorical, Normal, kl_divergence

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
GAMMA, LAMBDA, CLIP, VALUE, ENTROPY, SCALE = 0.9, 0.8, 0.2, 0.5, 0.03, 4.0
LENGTHS = [5, 3]  # steps of the two trials, one of each task
LONGEST, ARMS, WIDTH = max(LENGTHS), 3, 2


def gae(rewards, values):
    """Advantages of one trial, from the last step on; nothing comes after it."""
    advantages, ahead, after = [], 0.0, 0.0
    for reward, value in zip(reversed(rewards), reversed(values)):
        ahead = reward + GAMMA * after - value + GAMMA * LAMBDA * ahead
        after = value
        advantages.insert(0, ahead)
    return torch.stack(advantages)


def loss(trials, distribution, values, every):
    """Mean over the steps of each task; `every` holds the advantages of all."""
    centre, deviation = every.mean(), every.std(unbiased=False)
    losses = []
    for task, trial in enumerate(trials):
        steps = trial["rewards"].shape[0]
        advantage = (trial["advantages"] - centre) / (deviation + 1e-8)
        of = distribution(task, steps)
        log_prob, entropy = of.log_prob(trial["actions"]), of.entropy()
        if log_prob.dim() == 2:
            log_prob, entropy = log_prob.sum(1), entropy.sum(1)
        ratio = (log_prob - trial["old"]).exp()
        gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        error = (values[task, :steps, 0] - trial["returns"] / SCALE) ** 2
        losses.append((-gain + 0.5 * VALUE * error - ENTROPY * entropy).mean())
    return torch.stack(losses)


def case(kind):
    continuous = kind == "normal"
    outputs = WIDTH if continuous else ARMS
    said = torch.randn(2, LONGEST, outputs, requires_grad=True)
    log_deviations = (0.3 * torch.randn(WIDTH)).requires_grad_()
    values = torch.randn(2, LONGEST, 1, requires_grad=True)

    def distribution(task, steps, said=said, logs=log_deviations):
        own = said[task, :steps]
        return Normal(own, logs.exp()) if continuous else Categorical(logits=own)

    trials = []
    for task, steps in enumerate(LENGTHS):
        actions = torch.randn(steps, WIDTH) if continuous else torch.randint(ARMS, (steps,))
        log_prob = distribution(task, steps).log_prob(actions)
        log_prob = log_prob.sum(1) if continuous else log_prob
        rewards, old_values = torch.randn(steps), torch.randn(steps)
        advantages = gae(rewards, old_values)
        trials.append(
            {
                "rewards": rewards,
                "values": old_values,
                "actions": actions,
                # So far off that some ratios are clipped.
                "old": (log_prob + 0.4 * torch.randn(steps)).detach(),
                "advantages": advantages,
                "returns": advantages + old_values,
            }
        )
    every = torch.cat([trial["advantages"] for trial in trials])
    losses = loss(trials, distribution, values, every)
    losses.mean().backward()
    other = torch.randn(2, LONGEST, outputs)
    other_logs = 0.3 * torch.randn(WIDTH)
    if continuous:
        there, here = Normal(other, other_logs.exp()), Normal(said, log_deviations.exp())
        divergence = kl_divergence(here, there).sum(2)
    else:
        divergence = kl_divergence(Categorical(logits=said), Categorical(logits=other))
    return {
        "trials": [{key: value.tolist() for key, value in trial.items()} for trial in trials],
        "said": said.tolist(),
        "log_deviations": log_deviations.tolist(),
        "now": values.tolist(),
        "losses": losses.tolist(),
        "of_said": said.grad.tolist(),
        "of_values": values.grad.tolist(),
        "of_deviations": log_deviations.grad.tolist() if continuous else [],
        "other": other.tolist(),
        "other_log_deviations": other_logs.tolist(),
        "divergence": divergence.tolist(),
    }


record = {"version": torch.__version__, "categorical": case("categorical"), "normal": case("normal")}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(record) + "\n")
