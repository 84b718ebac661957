"""One base algorithm per file; the folder is the registry.

`base` says what an algorithm is and what its state must offer; `td3bc` is the one to read first.
"""
