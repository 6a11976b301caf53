"""RL² and MAML for RL as their users write them in PyTorch: environments of NumPy, side by side, a loop over steps
in which the policy acts, then PPO; inner steps task by task by `autograd.grad` with `create_graph`.

The first step is checked on the trials that were exported. An iteration acts in environments of its own, of the
same kind and size.
"""

import numpy
import torch
import torch.nn.functional as F

import torch_recurrent
from torch_networks import from_ours, to_ours


def advantages(rewards, values, discount, lam):
    """Generalised advantages of one trial: its last step is its end."""
    following, found = 0.0, numpy.zeros(len(rewards))
    for step in reversed(range(len(rewards))):
        ahead = values[step + 1] if step + 1 < len(rewards) else 0.0
        following = rewards[step] + discount * ahead - values[step] + discount * lam * following
        found[step] = following
    return found


def standardized(values):
    return (values - values.mean()) / (values.std() + 1e-8)


def ppo(ratio, weight, clip):
    return torch.minimum(ratio * weight, ratio.clamp(1 - clip, 1 + clip) * weight)


class Trials:
    """Trials of `t` tasks, `b` of each: arrays `[t, b, l, …]`."""

    def __init__(self, arrays):
        self.inputs, self.actions = arrays["inputs"], arrays["actions"]
        self.rewards, self.values = arrays["rewards"], arrays["values"]
        self.log_probabilities, self.steps = arrays["log_probabilities"], arrays["steps"]

    @classmethod
    def exported(cls, workload, stage):
        prefix = f"trials.{stage}."
        names = [name for name in workload.episodes if name.startswith(prefix)]
        return cls({name.removeprefix(prefix): workload.episodes[name] for name in names})


class Mdps:
    """Random Markov decision problems: `count` trials side by side."""

    def __init__(self, count, states=10, actions=5, horizon=10):
        self.count, self.states, self.actions, self.horizon = count, states, actions, horizon
        shape = (count, states, actions)
        self.transitions = numpy.random.dirichlet(numpy.ones(states), shape).cumsum(-1)
        self.means = numpy.random.normal(1.0, 1.0, shape)

    def reset(self):
        self.state = numpy.zeros(self.count, int)
        return self.state

    def step(self, actions):
        at = numpy.arange(self.count), self.state, actions
        rewards = numpy.random.normal(self.means[at], 1.0)
        drawn = numpy.random.rand(self.count, 1)
        self.state = numpy.minimum((self.transitions[at] <= drawn).sum(-1), self.states - 1)
        return self.state, rewards


class Rl2:
    def __init__(self, workload, optimizer):
        self.workload, self.settings = workload, workload.settings
        self.dtype = torch.float64 if workload.is_double else torch.float32
        self.parameters = {
            name: from_ours(name, value, workload.parameters).requires_grad_()
            for name, value in workload.parameters.items()
        }
        self.optimizer = optimizer(workload, list(self.parameters.values()))
        discount, episodes = self.settings["discount"], workload.shot
        steps = Trials.exported(workload, 0).inputs.shape[2]
        self.scale = sum(discount**step for step in range(steps))
        self.episodes = episodes

    def memory(self, inputs, state=None):
        """`[b, l, f]` to the states after each step, `[b, l, h]`."""
        flat = torch_recurrent.weights(self.parameters, "memory.gru.")
        start = inputs.new_zeros(1, len(inputs), flat[1].shape[1]) if state is None else state
        return torch._VF.gru(inputs, start, flat, True, 1, 0.0, False, False, True)[0]

    def heads(self, memory):
        p = self.parameters
        scores = memory @ p["actions.weight"] + p["actions.bias"]
        return scores, (memory @ p["value.weight"] + p["value.bias"])[..., 0]

    def losses(self, trials, weighed, tasks):
        """The loss of each of the `tasks`."""
        settings = self.settings

        def tensor(values):
            return torch.from_numpy(values[tasks]).flatten(0, 1).to(self.dtype)

        scores, values = self.heads(self.memory(tensor(trials.inputs)))
        logs = F.log_softmax(scores, -1)
        entropy = -(logs.exp() * logs).sum(-1)
        chosen = logs.gather(-1, tensor(trials.actions).long())[..., 0]
        ratio = (chosen - tensor(trials.log_probabilities)).exp()
        gain = ppo(ratio, tensor(weighed["advantages"]), settings["clip"])
        error = values - tensor(weighed["returns"]) / self.scale
        each = 0.5 * settings["value_weight"] * error**2 - gain - settings["entropy_weight"] * entropy
        return each.unflatten(0, (len(tasks), -1)).flatten(1).mean(1)

    def weigh(self, trials):
        """Advantages and returns of all steps, `[t, b, l]`."""
        settings = self.settings
        flat = [values.reshape(-1, values.shape[2]) for values in (trials.rewards, trials.values)]
        found = numpy.stack([
            advantages(rewards.astype(float), values.astype(float), settings["discount"], settings["gae_lambda"])
            for rewards, values in zip(*flat)
        ]).reshape(trials.rewards.shape)
        return {"advantages": standardized(found), "returns": found + trials.values}

    def gradient(self):
        """Of all exported trials: leaves it in `.grad` and returns the losses."""
        self.optimizer.zero_grad(set_to_none=True)
        trials = Trials.exported(self.workload, 0)
        losses = self.losses(trials, self.weigh(trials), numpy.arange(self.workload.tasks))
        losses.mean().backward()
        return losses.detach()

    @torch.no_grad()
    def act(self):
        t, world = self.workload.tasks, Mdps(self.workload.tasks)
        last = numpy.zeros((t, world.actions + 2), numpy.float32)
        state, kept = None, {name: [] for name in ("inputs", "actions", "rewards", "values", "log_probabilities")}
        one_hot_states, one_hot_actions = numpy.eye(world.states), numpy.eye(world.actions)
        for _ in range(self.episodes):
            seen = world.reset()
            last[:, -1] = 1.0
            for _ in range(world.horizon):
                read = numpy.concatenate([one_hot_states[seen], last], 1).astype(numpy.float32)
                memory = self.memory(torch.from_numpy(read)[:, None].to(self.dtype), state)
                state = memory.transpose(0, 1)
                scores, values = self.heads(memory[:, 0])
                policy = torch.distributions.Categorical(logits=scores)
                actions = policy.sample()
                seen, rewards = world.step(actions.numpy())
                for name, value in (
                    ("inputs", read), ("actions", actions.numpy()[:, None]), ("rewards", rewards),
                    ("values", self.scale * values.numpy()), ("log_probabilities", policy.log_prob(actions).numpy()),
                ):
                    kept[name].append(value)
                last[:, :-2], last[:, -2], last[:, -1] = one_hot_actions[actions.numpy()], rewards, 0.0
        arrays = {name: numpy.stack(values, 1)[:, None] for name, values in kept.items()}
        return Trials({**arrays, "steps": None})

    def iteration(self):
        trials = self.act()
        weighed = self.weigh(trials)
        for _ in range(self.settings["epochs"]):
            for part in numpy.array_split(numpy.arange(self.workload.tasks), self.settings["minibatches"]):
                self.optimizer.zero_grad(set_to_none=True)
                losses = self.losses(trials, weighed, part)
                losses.mean().backward()
                self.optimizer.step()
        return losses.detach()


class Points:
    """Navigation: `count` points side by side to one goal."""

    def __init__(self, count, horizon=100):
        self.count, self.horizon = count, horizon
        self.goal = numpy.random.uniform(-0.5, 0.5, 2)

    def reset(self):
        self.point = numpy.zeros((self.count, 2))
        return self.point

    def step(self, actions):
        self.point = self.point + numpy.clip(actions, -0.1, 0.1)
        squared = ((self.point - self.goal) ** 2).sum(1)
        return self.point, -squared, squared < 0.01**2


class MamlRl:
    def __init__(self, workload, optimizer):
        self.workload, self.settings = workload, workload.settings
        self.dtype = torch.float64 if workload.is_double else torch.float32
        self.parameters = {
            name: from_ours(name, value, workload.parameters).requires_grad_()
            for name, value in workload.parameters.items()
        }
        self.optimizer = optimizer(workload, list(self.parameters.values()))
        self.layers = len(workload.encoder_settings["hidden"])
        self.width = workload.parameters["encoder.layers.0.weight"].shape[1]

    def policy(self, p, x):
        for layer in range(self.layers):
            name = f"encoder.layers.{layer}"
            x = F.relu(x @ p[f"{name}.weight"] + p[f"{name}.bias"])
        means = x @ p["head.weight"] + p["head.bias"]
        return torch.distributions.Normal(means, p["deviations"].flatten().exp().expand_as(means))

    def weigh(self, trials, task):
        """Advantages of a task's trials over a linear baseline, `[b, l]`, and which steps there are."""
        settings = self.settings
        rewards = trials.rewards[task].astype(float)
        b, length = rewards.shape
        there = numpy.arange(length)[None] < trials.steps[task][:, None]
        returns = numpy.zeros_like(rewards)
        following = numpy.zeros(b)
        for step in reversed(range(length)):
            following = rewards[:, step] + settings["discount"] * following
            returns[:, step] = following
        seen = numpy.clip(trials.inputs[task][..., :2].astype(float), -10, 10)
        time = numpy.broadcast_to(numpy.arange(length) / 100.0, (b, length))[..., None]
        features = numpy.concatenate([seen, seen**2, time, time**2, time**3, numpy.ones_like(time)], 2)
        rows = features[there]
        gram = rows.T @ rows + 1e-5 * numpy.eye(rows.shape[1])
        values = features @ numpy.linalg.solve(gram, rows.T @ returns[there])
        found = numpy.zeros_like(rewards)
        for trial in range(b):
            steps = int(trials.steps[task][trial])
            found[trial, :steps] = advantages(
                rewards[trial, :steps], values[trial, :steps], settings["discount"], settings["gae_lambda"]
            )
        whole = found[there]
        return numpy.where(there, (found - whole.mean()) / (whole.std() + 1e-8), 0.0), there

    def ratio(self, p, trials, task, advantages, there):
        """Ratios, advantages and the weight of each step."""
        def tensor(values):
            return torch.from_numpy(numpy.ascontiguousarray(values)).to(self.dtype)

        policy = self.policy(p, tensor(trials.inputs[task]))
        logs = policy.log_prob(tensor(trials.actions[task])).sum(-1)
        moved = (logs - tensor(trials.log_probabilities[task])) * tensor(there)
        weights = tensor(there / there.sum())
        return moved.exp(), tensor(advantages), weights, policy.entropy().sum(-1)

    def adapted(self, trials, task):
        """The parameters of a task after one inner step."""
        second = self.settings["order"] == "second"
        ratio, weight, share, _ = self.ratio(self.parameters, trials, task, *self.weigh(trials, task))
        loss = -(ratio * weight * share).sum()
        leaves = list(self.parameters.values())
        gradients = torch.autograd.grad(loss, leaves, create_graph=second)
        steps = zip(self.parameters.items(), gradients)
        return {name: value - self.settings["inner_lr"] * gradient for (name, value), gradient in steps}

    def loss(self, before, after, task):
        settings = self.settings
        fast = self.adapted(before, task)
        ratio, weight, share, entropy = self.ratio(fast, after, task, *self.weigh(after, task))
        gain = ppo(ratio, weight, settings["clip"]) + settings["entropy_weight"] * entropy
        return -(gain * share).sum()

    def gradient(self, stages=None):
        self.optimizer.zero_grad(set_to_none=True)
        stages = stages or [Trials.exported(self.workload, stage) for stage in (0, 1)]
        losses = []
        for task in range(self.workload.tasks):
            loss = self.loss(*stages, task)
            (loss / self.workload.tasks).backward()
            losses.append(loss.detach())
        return torch.stack(losses)

    def run_episodes(self, p, world):
        """One episode of each point."""
        names = ("inputs", "actions", "rewards", "log_probabilities")
        kept, steps = {name: [] for name in names}, numpy.zeros(world.count)
        seen, going = world.reset(), numpy.ones(world.count, bool)
        with torch.no_grad():
            for _ in range(world.horizon):
                if not going.any():
                    break
                read = numpy.zeros((world.count, self.width), numpy.float32)
                read[:, :2] = seen
                policy = self.policy(p, torch.from_numpy(read).to(self.dtype))
                actions = policy.sample()
                logs = policy.log_prob(actions).sum(-1).numpy()
                seen, rewards, done = world.step(actions.numpy())
                for name, value in zip(names, (read, actions.numpy(), rewards * going, logs)):
                    kept[name].append(value)
                steps += going
                going = going & ~done
        return {**{name: numpy.stack(values, 1) for name, values in kept.items()}, "steps": steps}

    def iteration(self):
        stages = [[], []]
        for _ in range(self.workload.tasks):
            world = Points(self.workload.shot)
            before = self.run_episodes(self.parameters, world)
            alone = Trials({**{name: value[None] for name, value in before.items()}, "values": None})
            fast = {name: value.detach() for name, value in self.adapted(alone, 0).items()}
            stages[0].append(before)
            world.count = self.workload.description["episode"]["query"]
            stages[1].append(self.run_episodes(fast, world))
        stages = [self.stacked(stage) for stage in stages]
        for _ in range(self.settings["epochs"]):
            losses = self.gradient(stages)
            self.optimizer.step()
        return losses

    @staticmethod
    def stacked(stage):
        """Tasks side by side; shorter ones with zeros behind."""
        longest = max(own["rewards"].shape[1] for own in stage)

        def padded(values):
            if values.ndim == 1:
                return values
            missing = [(0, 0), (0, longest - values.shape[1])] + [(0, 0)] * (values.ndim - 2)
            return numpy.pad(values, missing)

        names = stage[0]
        return Trials({**{name: numpy.stack([padded(own[name]) for own in stage]) for name in names}, "values": None})


class RandomActions:
    """The environments alone."""

    def __init__(self, workload):
        self.workload = workload

    def returns(self):
        world = Mdps(self.workload.tasks)
        total = numpy.zeros(world.count)
        for _ in range(self.workload.shot):
            world.reset()
            for _ in range(world.horizon):
                total += world.step(numpy.random.randint(world.actions, size=world.count))[1]
        return torch.from_numpy(total)

    def check(self):
        """Draws are its own: by how much more than five standard errors the means of returns differ."""
        ours, theirs = self.workload.first_step["predictions"].flatten(), self.returns().numpy()
        standard_error = ((ours.var() + theirs.var()) / len(ours)) ** 0.5
        error = max(0.0, abs(ours.mean() - theirs.mean()) / standard_error - 5.0)
        self.workload.require("mean return", error)
        return error, error


LEARNERS = {"rl2": Rl2, "maml_rl": MamlRl, "reference_policy": RandomActions}


def variant(workload, optimizer):
    """`(check, run)` of a workload."""
    if not workload.trains:
        learner = LEARNERS[workload.learner](workload)
        return learner.check, learner.returns
    learner = LEARNERS[workload.learner](workload, optimizer)

    def check():
        losses = learner.gradient()
        gradients = {
            name: to_ours(name, p.grad if p.grad is not None else torch.zeros_like(p), workload.parameters)
            for name, p in learner.parameters.items()
        }
        return workload.check_step(losses.cpu().numpy(), gradients)

    return check, learner.iteration
