"""Small generated data sets in the layouts of real ones, for the experiments in pipelines/."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def make_photo(path: Path, seed: int, *, shade: int, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Path:
    """Write a noisy JPEG; classes of different shades can be told apart."""
    channels = () if mode == "L" else (3,)
    pixels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], *channels)) + shade
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8), mode=mode).save(path, "JPEG")
    return path


def _shade(number: int, n_classes: int) -> int:
    return round(190 * number / max(1, n_classes - 1))


MAME_COLUMNS = (
    *("Image file", "Medium", "Museum", "Museum-based instance ID", "Subset", "Width", "Height"),
    *("Product size", "Aspect ratio"),
)
# One of the labels ends with a blank in the file.
MAME_MEDIA = ("Albumen photograph", "Bronze", "Hand-colored engraving ")


def make_mame(data: Path, counts: tuple[int, int, int] = (6, 3, 3)) -> None:
    """MAMe: MAMe_dataset.csv beside the flat folder data_256; so many train, val and test images a medium."""
    rows = []
    for number, medium in enumerate(MAME_MEDIA):
        for subset, n_images in zip(("train", "val", "test"), counts, strict=True):
            for i in range(n_images):
                seed = len(rows)
                name = f"{seed:06d}.jpg"
                make_photo(data / "data_256" / name, seed, shade=_shade(number, 3), size=(256, 256))
                museum = ("Met", "LACMA", "CMA")[seed % 3]
                rows.append((name, medium, museum, 1000 + i, subset, 3000, 2000, 6000000, 1.5))
    with (data / "MAMe_dataset.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([MAME_COLUMNS, *rows])


CALTECH_CLASSES = ("001.ak47", "056.dog", "198.spider", "257.clutter")


def make_caltech256(data: Path, n_images: int = 9) -> None:
    """Caltech-256: numbered folders, with the clutter class and the two things among them that are no images."""
    root = data / "256_ObjectCategories"
    for number, name in enumerate(CALTECH_CLASSES):
        for i in range(1, n_images + 1):
            path = root / name / f"{name[:3]}_{i:04d}.jpg"
            make_photo(path, 100 * number + i, shade=_shade(number, 4))
    (root / "056.dog" / "greg" / "vision309").mkdir(parents=True)
    (root / "198.spider" / "RENAME2").write_text("#!/bin/sh\n", encoding="utf-8")


FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def make_flowers(data: Path, n_images: int = 6) -> None:
    """TensorFlow's flower_photos: a folder a kind, and LICENSE.txt beside them."""
    for number, name in enumerate(FLOWERS):
        for i in range(n_images):
            path = data / "flower_photos" / name / f"{10**8 + 1000 * number + i}_{i:010x}.jpg"
            make_photo(path, 100 * number + i, shade=_shade(number, 5))
    (data / "flower_photos" / "LICENSE.txt").write_text("CC-BY\n", encoding="utf-8")


SCENES = (
    *("bedroom", "CALsuburb", "industrial", "kitchen", "livingroom", "MITcoast", "MITforest", "MIThighway"),
    *("MITinsidecity", "MITmountain", "MITopencountry", "MITstreet", "MITtallbuilding", "PARoffice", "store"),
)


def make_scenes(data: Path, n_images: int = 5) -> None:
    """15-Scene: a folder a scene, of greyscale images."""
    for number, name in enumerate(SCENES):
        for i in range(1, n_images + 1):
            path = data / "scene_categories" / name / f"image_{i:04d}.jpg"
            make_photo(path, 100 * number + i, shade=_shade(number, 15), mode="L")


ACTIVITIES = ("sports", "occupation", "dancing")


def make_activities(data: Path, n_videos: int = 4, n_frames: int = 3) -> Path:
    """MPII Human Pose: a flat folder of images, and the .mat file of annotations, whose path is returned.

    A category of one video, and an image of the data set's test part (no activity, no video), are among them.
    """
    entries = []
    for number, category in enumerate((*ACTIVITIES, "volunteer activities")):
        for v in range(n_videos if category in ACTIVITIES else 1):
            video = 10 * number + v + 1
            for frame in range(n_frames):
                name = f"{100 * video + frame:09d}.jpg"
                make_photo(data / "images" / name, 100 * video + frame, shade=_shade(number, 4), size=(64, 36))
                entries.append((name, video, 7 * number + 1, category, f"{category}, general"))
    make_photo(data / "images" / "000000099.jpg", 99, shade=0)
    entries.append(("000000099.jpg", None, -1, "", ""))
    path = data / "annot" / "mpii_human_pose_v1_u12_1.mat"
    path.parent.mkdir()
    savemat(path, {"RELEASE": _release(entries)})
    return path


def _release(entries: list[tuple]) -> np.ndarray:
    """Return the struct of MPII's file, as far as it is read: annolist lies, act stands."""
    annolist = np.empty((1, len(entries)), dtype=[("image", object), ("vididx", object), ("frame_sec", object)])
    act = np.empty((len(entries), 1), dtype=[("cat_name", object), ("act_name", object), ("act_id", object)])
    for row, (name, video, number, category, activity) in enumerate(entries):
        image = np.empty((1, 1), dtype=[("name", object)])
        image[0, 0] = (name,)
        index = np.empty((0, 0)) if video is None else np.array([[video]])
        annolist[0, row] = (image, index, index)
        act[row, 0] = (category, activity, np.array([[number]]))
    release = np.empty((1, 1), dtype=[("annolist", object), ("img_train", object), ("act", object)])
    img_train = np.array([[int(entry[2] != -1) for entry in entries]])
    release[0, 0] = (annolist, img_train, act)
    return release
