"""How the sets of `tasks.sources.local` are made, and the policies that act in them.

`maze2d` plans routes and follows them with a controller. `locomotion` runs the shipped policies of `policies`, which
`train_policies` trained by the augmented random search in `ars`. `describe_sets` measures every set and prints the
tables of `tasks/DATASETS.md`. Read `maze2d` or `locomotion` first; the rest is for making things again.
"""
