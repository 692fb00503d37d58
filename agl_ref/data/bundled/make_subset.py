"""Cuts the bundled subset from the official Fashion-MNIST files: `python -m agl_ref.data.bundled.make_subset`.

Rule: the first 500 images of each class in the training file and the first 100 of each class in the test
file, in the order of those files. No image is chosen or left out for what it shows. Running it again gives
the same bytes (with the same zlib; the fingerprint of the arrays is the same everywhere).
"""

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from agl_ref import data

N_TRAIN, N_TEST = 5000, 1000


def npz_bytes(arrays):
    """The bytes of an npz of {key: array}: deflate level 9, fixed dates, so equal arrays give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


def subset_bytes(dataset, n_train=N_TRAIN, n_test=N_TEST):
    """The npz of the first images of each class of `dataset`: images (N, H, W) and labels (N,), all uint8."""
    cut = dataset.subset(n_train, n_test)
    return npz_bytes(
        {
            "x_train": np.ascontiguousarray(cut.x_train[..., 0]),
            "y_train": cut.y_train.astype(np.uint8),
            "x_test": np.ascontiguousarray(cut.x_test[..., 0]),
            "y_test": cut.y_test.astype(np.uint8),
        }
    )


def main(arguments=None):
    """Writes the file and prints its size and fingerprint."""
    parser = argparse.ArgumentParser(prog="python -m agl_ref.data.bundled.make_subset", description=main.__doc__)
    parser.add_argument("--data", default="fashion-mnist", help="folder of the official files (default: Debian's)")
    parser.add_argument("--out", type=Path, default=data.BUNDLED_FILE, help="default: the bundled file")
    options = parser.parse_args(arguments)
    try:
        content = subset_bytes(data.load(options.data))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3
    options.out.write_bytes(content)
    print(f"{options.out}: {len(content)} bytes, fingerprint {data.load_npz(options.out).fingerprint()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
