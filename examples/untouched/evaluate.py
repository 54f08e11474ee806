"""Its evaluation: a checkpoint and a folder with test.csv, and the loss as JSON."""

import json
import os
import sys

import numpy as np

state = np.load(sys.argv[1])
folder = sys.argv[2]
# Beside the test set, a folder may hold another table of the same form.
name = next(name for name in ("test.csv", "val.csv") if os.path.exists(os.path.join(folder, name)))
rows = np.loadtxt(os.path.join(folder, name), delimiter=",")
error = float(np.mean((rows[:, :-1] @ state["weights"] - rows[:, -1]) ** 2))
with open("result.json", "w") as out:
    json.dump({"loss": error}, out)
