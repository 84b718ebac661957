"""Diffusion models: `edm` has the mathematics and the samplers, `denoisers` the networks.

`transition` models single transitions; `trajectory` models windows of episodes (`windows`) of which a part is known
(`known`).
"""
