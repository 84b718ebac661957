"""What training compute buys: the error of rollouts against the FLOP that were spent on a generator's models.

`series` finds cells that differ in the length of their fits alone, and their errors; `laws` has the exponents and where
one generator overtakes another; `words` says it in sentences.
"""
