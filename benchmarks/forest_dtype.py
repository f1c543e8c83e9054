"""Time forests on ternary features that are given as int8 and as float32, by turns, in one run.

scikit-learn's trees compare float32 values and convert whatever else they are given, once a fit; the forests must be
the same.

    python benchmarks/forest_dtype.py --rows 2000 --features 4224
"""

import argparse
import statistics
import sys
import time

import numpy as np
from sklearn.ensemble import RandomForestClassifier

DTYPES = ("int8", "float32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--features", type=int, default=4224, help="default: the means of VGG16's 13 convolutions")
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--times", type=int, default=5, help="fits of each; the medians are compared")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    y = rng.integers(0, 2, options.rows)
    X = rng.integers(-1, 2, (options.rows, options.features), dtype=np.int8)
    # Some features tell of the class, so that trees end.
    X[:, :50] = np.where(rng.random((options.rows, 50)) < 0.3, 2 * y[:, None] - 1, X[:, :50])
    given = {dtype: X.astype(dtype) for dtype in DTYPES}
    seconds: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    probabilities = {}
    for _ in range(options.times):
        for dtype, features in given.items():
            forest = RandomForestClassifier(options.trees, min_samples_leaf=2, random_state=options.seed)
            begun = time.process_time()
            forest.fit(features, y)
            seconds[dtype].append(time.process_time() - begun)
            probabilities[dtype] = forest.predict_proba(features)

    begun = time.process_time()
    given["int8"].astype(np.float32)
    conversion = time.process_time() - begun
    medians = {dtype: statistics.median(times) for dtype, times in seconds.items()}
    for dtype, times in seconds.items():
        print(f"{dtype:8} {medians[dtype]:7.3f} s of CPU ({min(times):.3f} to {max(times):.3f})")
    print(f"int8 / float32 {medians['int8'] / medians['float32']:.3f}; the conversion alone takes {conversion:.3f} s")
    return 0 if np.array_equal(*probabilities.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
