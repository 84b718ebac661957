"""What is measured of a cell: of its policy, at every evaluation, and of its generator, once training is over.

`policy` is the score in the simulator. `counterparts` puts generated rollouts beside the simulator's from the same
start states, `rollouts` computes every metric of them, with `consistency` (are the actions the policy's?) and `bounds`
in files of their own: the formulas are in `metrics`, the calls and names are here.
"""
