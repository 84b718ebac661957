"""The answer in sentences, made by rule from the numbers of a folder.

`headline` is what comes first: what is missing, controls that fail, verdicts. `sureness` says how far to trust it,
`reasons` why and at what price, `limits` what the reader must know besides; `phrases` are shared.
"""
