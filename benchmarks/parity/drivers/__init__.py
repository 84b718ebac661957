"""One file for each peer: it runs in the peer's own process and interpreter, and trains with the peer's own code.

`python -m benchmarks.parity.drivers.NAME JOB.json FOLDER` reads what to do, imports the checkout that the job names,
and writes plain files into the folder. `shims` stands for packages that no longer install. Nothing of our product is
imported here: only the standard library, numpy, h5py, what the peer needs, and `benchmarks.peers`.
"""
