"""What every part shares; imports nothing else of this project.

Read `data` (transitions, trajectories, datasets), `random` (one stream per seed, children by label) and `policy` first.
`config` and `registry` build methods from the fields of a suite, `buffer` mixes real and synthetic rows, `filter` keeps
the best rollouts. `checkpoint`, `files`, `interrupt`, `progress` and `errors` serve long runs.
"""
