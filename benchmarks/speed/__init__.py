"""Speed beside the usual tools, as ratios within one run: `python -m benchmarks.speed`. Nothing else imports this room.

`harness` times implementations in turns, `peers` runs other people's code, `__main__` is the command line and draws
the table; then one file for each thing that is measured. `gpu` has a command line of its own, for a machine that is
lent for minutes; `test_hot_paths` is what continuous integration times.
"""
