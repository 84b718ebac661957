"""What the d4rl package itself makes of HDF5 files: run by `test_qlearning.py` with the Python of another environment.

That environment holds d4rl 1.1 without its simulators:
    python -m venv ENV
    ENV/bin/pip install --no-deps d4rl==1.1 gym==0.23.1 cloudpickle gym_notices numpy h5py tqdm
and `make oracles` then calls
    ROLLOUTBENCH_ORACLES=ENV/bin/python python -m pytest tests/oracles/test_qlearning.py

Usage: ENV/bin/python d4rl_qlearning.py FOLDER: writes FOLDER/<name>.npz beside every FOLDER/<name>.hdf5, its arrays
named `default/<key>` and `terminate_on_end/<key>`.
"""

import sys
from pathlib import Path

import d4rl
import h5py
import numpy as np


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.hdf5")):
        with h5py.File(path, "r") as file:
            keys = ("observations", "actions", "rewards", "terminals", "timeouts")
            dataset = {key: file[key][()] for key in keys}
        arrays = {}
        for name, terminate in (("default", False), ("terminate_on_end", True)):
            made = d4rl.qlearning_dataset(None, dataset=dataset, terminate_on_end=terminate)
            arrays |= {f"{name}/{key}": value for key, value in made.items()}
        np.savez(path.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
