"""The golden files: one npz per case and a manifest, read with NumPy alone and checked to the last bit.

    inputs/NAME    what an implementation gets: float32 (each value is exact in it), labels int64
    arrays/NAME    the reference's values in the order of computation: float64, or float32 or uint8 where that is exact
    bounds/NAME    uint8 codes, see `agl_ref.oracle.types.decode_bounds`; left out where all are 0
    margins/NAME   uint8 codes of 1 / margin; left out where nothing can flip
    header         the case's entry in the manifest as JSON, uint8

Arrays that repeat an earlier one bit for bit are stored once: "same" in the header names it. A SHA-256 covers each file and
each array (shape, dtype and bytes).
"""

import difflib
import hashlib
import io
import json
import os
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from agl_ref import __version__, files
from agl_ref.conventions import MPD_AGL, Conventions
