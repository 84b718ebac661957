"""One way of generating synthetic rollouts per file; the folder is the registry.

`base` says what a generator is. Read `ensemble` next, the simplest with a learned model, then `dydiff`; `none`,
`duplicate` and `oneshot` are controls, `simulator` is the ceiling.
"""
