"""Learned parts that methods share; every model carries a leading axis of seeds.

`nn` has the layers and the optimiser's step, `bitwise` says why seeds do not influence each other, `actors` the
policies. A model is a configuration that makes and fits it: `cache` (the base class; each fit is kept), then
`dynamics`, `reward`, `behaviour` and `diffusion`, fitted by the loops in `training`; `flops` counts what that takes.
"""
