"""Make the table of images that experiment.yaml reads, of the annotations of MPII Human Pose (a .mat file)."""

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from featx.errors import FeatxError
from featx.system import check_writable, whole_file

# What stands for an image whose activity is not known: those of the data set's own test part.
NO_ACTIVITY = -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path, help="mpii_human_pose_v1_u12_1.mat")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the CSV to write")
    parser.add_argument(
        "--fewest-videos",
        type=int,
        default=3,
        help="categories of fewer videos are left out: a video stays on one side of a split (default: 3)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a CSV that is there")
    options = parser.parse_args()
    try:
        check_writable(options.output, overwrite=options.overwrite)
        table = read_annotations(options.annotations)
        table, left_out = keep_common(table, options.fewest_videos)
        with whole_file(options.output) as file:
            file.write(table.to_csv(index=False).encode("utf-8"))
    except FeatxError as error:
        sys.exit(f"make_csv.py: {error}")
    for name, n_images in left_out.items():
        print(f"left out: {name!r} ({n_images} images of fewer than {options.fewest_videos} videos)", file=sys.stderr)
    print(f"{options.output}: {len(table):,} images, {table['label'].nunique()} categories")


def read_annotations(path: Path) -> pd.DataFrame:
    """Return a row an image with an activity: its path, category (label), activity and video.

    The file holds a MATLAB struct RELEASE: annolist (image.name and vididx of each image) and act (act_id, cat_name
    and act_name of each image).
    """
    try:
        # Opened here: of a path that isn't there, SciPy says that it has no name.
        with path.open("rb") as file:
            release = loadmat(file, variable_names=["RELEASE"])["RELEASE"][0, 0]
        images, acts = release["annolist"][0], release["act"][:, 0]
        rows = [
            {
                "path": str(image["image"][0, 0]["name"][0]),
                "label": str(act["cat_name"][0]),
                "activity": str(act["act_name"][0]),
                "video": int(image["vididx"][0, 0]),
            }
            for image, act in zip(images, acts, strict=True)
            if np.ravel(act["act_id"])[0] != NO_ACTIVITY
        ]
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror or error}") from error
    except (MatReadError, zlib.error, ValueError, LookupError, TypeError, NotImplementedError) as error:
        raise FeatxError(
            f"{path}: not the annotations of MPII Human Pose, version 1 ({type(error).__name__}: {error}). Expected "
            "mpii_human_pose_v1_u12_1.mat, as it comes in mpii_human_pose_v1_u12_2.zip"
        ) from error
    if not rows:
        raise FeatxError(f"{path}: no image in it has an activity")
    strange = [row["path"] for row in rows if Path(row["path"]).name != row["path"]]
    if strange:
        raise FeatxError(f"{path}: {strange[0]!r} is not the name of a file in the folder of images")
    return pd.DataFrame(rows)


def keep_common(table: pd.DataFrame, fewest_videos: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out categories of too few videos, and say which."""
    n_videos = table.groupby("label")["video"].nunique()
    rare = n_videos.index[n_videos < fewest_videos]
    kept = table[~table["label"].isin(rare)]
    if kept["label"].nunique() < 2:
        raise FeatxError(
            f"fewer than two categories have {fewest_videos} videos or more: nothing to tell apart; give a smaller "
            "--fewest-videos"
        )
    counts = table["label"].value_counts()
    return kept, {str(name): int(counts[name]) for name in rare}


if __name__ == "__main__":
    main()
