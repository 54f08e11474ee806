"""Write the tables that the script reads: data/search/{train,val}.csv and data/test/test.csv."""

import os

import numpy as np

rng = np.random.default_rng(0)
weights = rng.normal(size=6)
for place, rows in (("search/train", 240), ("search/val", 80), ("test/test", 400)):
    os.makedirs(os.path.dirname(f"data/{place}"), exist_ok=True)
    inputs = rng.normal(size=(rows, 6))
    targets = inputs @ weights + rng.normal(scale=0.5, size=rows)
    np.savetxt(f"data/{place}.csv", np.column_stack([inputs, targets]), delimiter=",")
