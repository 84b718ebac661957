"""Every metric that records.jsonl can hold, and what it means; METRICS.md has the formulas."""

__all__ = ["METRICS"]

# What records.jsonl can hold. <actions>: policy (the learning policy's own) or logged; <h>: step of the rollout.
METRICS = {
    "return": "mean undiscounted return of the greedy policy over the evaluation's episodes",
    "normalized_score": "the return on D4RL's scale: 0 and 100 are its reference policies",
    "train/<loss>": "the algorithm's losses at the evaluation's update",
    "generate/<quantity>": "what a generator says of its call before this update: how far actions moved in each round, "
    "share of clipped entries, share of steps cut off as not finite, share kept by rank (tenths, best first), network "
    "evaluations and FLOP per transition",
    "diverged/<tensor>": "last record of a seed: at this update the tensor was seen not to be finite",
    "compounding/<actions>/median/<h>": "open loop: error of generated states against the simulator, same actions",
    "compounding/<actions>/{mean,q10,q90}/<h>": "the same, mean and tenths over rollouts",
    "compounding/<actions>/capped/<h>": "share of these errors that was cut to the diameter of the data",
    "compounding/<actions>/local/<h>": "one simulator step from the generated state before, median",
    "compounding/<actions>/closed/<h>": "closed loop: distance to the policy's own roll-out in the simulator, median",
    "compounding/<actions>/alive/<h>": "share of generated rollouts that have not ended before step h",
    "compounding/<actions>/lived/<h>": "the same share of the policy's own roll-outs in the simulator",
    "compounding/<actions>/floor/<h>": "recorded actions replayed against recorded states, median",
    "compounding/<actions>/chaos/<h>": "simulator against simulator, started one float32 ulp away, median",
    "compounding/<actions>/still/<h>": "error of the predictor that nothing moves, median",
    "compounding/leakage": "how far states move when only later actions are replaced; 0 for causal models",
    "compounding/starts_excluded": "share of held-out states that do not determine the simulator's state",
    "returns/<part>/<h>": "promised less lived return of h steps, and the parts that add up to it",
    "returns/used": "share of the rollouts whose rewards the simulator knows",
    "filter/<side>": "promised and true return of rollouts that the filter keeps and drops, and their rank correlation",
    "distance/{energy,wasserstein}/<h>": "generated states against those the policy lives through; _floor: two halves",
    "bound/<name>/<h>": "the return gap beside its autoregressive, non-autoregressive and trivial bounds",
    "bound/{amplification,steepness}": "measured constants of the bounds",
    "consistency/distance": "root mean square of the difference between generated actions and the policy's there",
    "consistency/kl": "KL between them: smoothed for deterministic policies, excess cross-entropy for Gaussian ones",
    "consistency/energy": "the same for policies that can only be sampled: excess energy distance",
    "behaviour/excess/<rows>": "nats by which actions surprise the behaviour policy more than the data's own do; "
    "<rows>: made (generated), lived (by the policy in the simulator) or heldout (of the data)",
    "behaviour/nearest/<rows>": "median distance in state and action to the nearest training row, in deviations",
    "behaviour/knn_kl/<rows>": "KL between these rows and the training rows by nearest neighbours, nats",
    "values/ratio": "size of the critic's values of generated actions, in units of that of recorded ones",
    "cost/<name>": "seconds by activity, updates per second, generated rows, peak memory, network evaluations and FLOP",
}
