"""Plain functions of tensors, one value per seed; they know nothing of generators or algorithms.

Read `catalogue` first: every metric that a cell records, with unit and meaning (METRICS.md is made from it). Then the
formulas: `score` (returns), `compounding` (errors by step), `returns` (the return gap and its parts), `bound`,
`consistency` (actions against policies), `distribution` (sets of states). Tables need `statistics` (estimates, tests)
and `intervals`; `coverage` measures how often these contain the truth. `scaling`: errors against training compute.
"""
