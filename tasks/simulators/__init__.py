"""The true dynamics: policies are evaluated in them, and generated rollouts are compared with them.

Read `base` first: what every simulator offers, and how a policy is run in one. `locomotion` (Hopper, HalfCheetah,
Walker2d) and `maze` (maze2d) step thousands of states at once from any state, through `batched_mujoco`. `gym` stands in
for any other gymnasium environment, which can be run but not replayed. The toy's is in `tasks.sources.toy`.
"""
