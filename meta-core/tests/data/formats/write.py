"""Writes the fixtures of this folder: the same table of 6 rows and 3 columns in every format.

Run with NumPy 2.4.6, pandas 3.1.1, polars 2.1.0, pyarrow 26.0.1, safetensors 0.8.0 and PyTorch 2.9.0:
`python write.py`. The numbers are multiples of 1/8 below 16, so they are exact in 16 bits too.
"""

import gzip
import pathlib
from collections import OrderedDict

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
features = np.arange(18, dtype=np.float64).reshape(6, 3) / 8 - 1
labels = np.array(["b", "é", "a,b", "b", "é", 'a"b'])
numbers = np.array([3, 1, 2, 3, 1, -7])
split = np.array(["train", "train", "train", "val", "test", "test"])

# NumPy: precisions, byte and axis orders, integers, text of both kinds; stored and packed.
for name, dtype in [("f16", "<f2"), ("f32", "<f4"), ("f64", "<f8"), ("big", ">f4")]:
    np.save(here / f"{name}.npy", features.astype(dtype))
np.save(here / "fortran.npy", np.asfortranarray(features.astype("<f4")))
np.save(here / "labels.npy", labels)
np.save(here / "numbers.npy", numbers)
np.save(here / "bytes.npy", np.array([text.encode() for text in labels]))
np.save(here / "objects.npy", labels.astype(object))
arrays = dict(features=features.astype("<f2"), labels=labels, numbers=numbers.astype("<u1"), split=split)
np.savez(here / "stored.npz", **arrays)
np.savez_compressed(here / "packed.npz", **arrays)

save_file(
    dict(features=features.astype("<f2"), wide=features, labels=numbers),
    here / "table.safetensors",
)

# PyTorch: a tensor alone, a dictionary with a list of text, a state dict, a view, and something that is code.
tensor = torch.from_numpy(features.astype("<f4"))
torch.save(tensor, here / "tensor.pt")
torch.save(
    dict(
        features=tensor.half(),
        bfloat=tensor.bfloat16(),
        transposed=tensor.t().contiguous().t(),
        tail=tensor[3:],
        labels=labels.tolist(),
        numbers=torch.from_numpy(numbers),
        nested=OrderedDict(weight=torch.nn.Parameter(tensor)),
    ),
    here / "table.pt",
)
torch.save(pathlib.PurePosixPath("/tmp"), here / "code.pt")

# pandas and polars: columns of text and numbers.
columns = {f"x{column}": features[:, column] for column in range(3)}
frame = pd.DataFrame(dict(columns, labels=labels, split=split))
frame.to_csv(here / "pandas.csv", index=False)
with gzip.GzipFile(here / "pandas.csv.gz", "wb", mtime=0) as file:
    file.write(("\ufeff" + frame.to_csv(index=False)).encode())
pl.DataFrame(dict(columns, labels=labels.tolist(), split=split.tolist())).write_csv(
    here / "polars.tsv", separator="\t"
)

# Parquet: one column a feature (pandas, snappy), a list column (polars, zstd), a list of halves (pyarrow, gzip).
frame.to_parquet(here / "columns.parquet", engine="pyarrow", index=False)
pl.DataFrame(
    dict(embedding=features.astype("<f4").tolist(), class_name=labels.tolist()),
    schema_overrides=dict(embedding=pl.List(pl.Float32)),
).write_parquet(here / "list.parquet", compression="zstd")
halves = pa.array([list(row) for row in features.astype("<f2")], pa.list_(pa.float16(), 3))
pq.write_table(
    pa.table(dict(embedding=halves, class_name=pa.array(numbers))),
    here / "halves.parquet",
    compression="gzip",
)
ragged = pl.DataFrame(dict(embedding=[[1.0, 2.0], [3.0]], class_name=["a", "b"]))
ragged.write_parquet(here / "ragged.parquet")
