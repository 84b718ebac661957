"""Commands that judge what has been run, each in a file of its own.

`status`: how far a results folder is. `verify`: whether a folder holds what it says. `reproduce`: run one cell once
more and compare every number. `regression` (command `check`): whether quality, speed or memory got worse.
"""
