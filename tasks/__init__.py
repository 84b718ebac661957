"""Where data and ground truth come from: a task is a dataset with the simulator that could have made it.

Read `base` first (task, options, what a source offers), then what happens to data on its way into a run: `rows` (what
every source gives, and what is checked of it), `hdf5` (files in D4RL's format), `split` (held-out episodes and
transitions). `audit` checks a dataset by replay, `listing` is the text of `run_bench.py data`, `download` fetches.
Rooms: `sources` (one file per source of data), `simulators` (the true dynamics), `recipes` (how local sets are made).
"""
