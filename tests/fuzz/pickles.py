#!/usr/bin/python3
"""Writes tests/fuzz/corpus/pickle: answers as Python's pickle and numpy (python3-numpy) write them, protocols 0 to 5, and
some that must be refused.  Run again after a change; the files are in the repository."""
import collections
import os
import pickle
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "corpus" / "pickle"


class Runs:
    def __reduce__(self):
        return os.system, ("touch /tmp/pickle-ran",)


good = {
    "plain": {"scores": [0.5, 0.25, -1], "ok": True, "none": None, "text": "gr\u00fcn", "big": 2**40, "neg": -3},
    "numpy_scalars": {"outputs": [np.float64(0.5), np.float32(0.25), np.float16(-1.0), np.int64(7), np.uint8(200), np.bool_(True)]},
    "numpy_array": {"scores": np.array([0.5, 0.25, -1.0], dtype=np.float32), "grid": np.arange(6, dtype=np.int16).reshape(2, 3)},
    "numpy_big_endian": {"scores": np.array([1.5, -2.0], dtype=">f8")},
    "tuple": ((1, 2.0, "x"), [()], {1: "one"}),
    "ordered": collections.OrderedDict(outputs=[[0.5], [0.25]]),
    "bytes": {"b": b"abc", "a": bytearray(b"xyz")},
    "shared": (lambda x: [x, x, x])([1, 2]),
}
for name, value in good.items():
    for protocol in range(6):
        (FOLDER / f"{name}_{protocol}").write_bytes(pickle.dumps(value, protocol))

cycle = []
cycle.append(cycle)
bomb = [0.0]
for _ in range(40):
    bomb = [bomb, bomb]
deep = 1
for _ in range(200):
    deep = [deep]
long = "x" * 8192
bad = {"text": [long] * 80, "keys": [{long: 1} for _ in range(80)], "runs": Runs(), "cycle": cycle, "bomb": bomb, "deep": deep, "set": {1, 2}, "complex": 1j, "strings": np.array(["a", "b"]),
       "huge": 2**80, "type": int}
(FOLDER / "bad_key").write_bytes(b"\x80\x03}X\x02\x00\x00\x00k\x93K\x01s.")
(FOLDER / "bad_encode").write_bytes(b"\x80\x02](c_codecs\nencode\nq\x000X\x00\x20\x00\x00" + long.encode() + b"q\x010" +
                                    80 * b"h\x00h\x01\x85R" + b"e.")
for name, value in bad.items():
    (FOLDER / f"bad_{name}").write_bytes(pickle.dumps(value, 4))
