"""One file per source of data; the folder is the registry, and a task is called `<file>/<dataset>`.

Each file ends with its `SOURCE`, a `tasks.base.Source` that says what it offers; there is nothing else to register.
Read `toy` first (rows made in memory, and its own simulator), then `local` (sets made here by a recipe, cached with a
card), `d4rl` (published files, found or downloaded) and `minari` (any Minari dataset, with any gymnasium environment).
"""
