"""Real photographs, damaged at random: what strangers' files, broken disks and clever people send."""

import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("JPEG", "progressive JPEG", "PNG", "16-bit PNG", "palette PNG", "GIF", "WEBP", "TIFF", "LZW TIFF", "BMP")

# At these values sizes, offsets and counts turn over.
_ODD_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def jpeg_photographs() -> list[Path]:
    """Return the photographs that scikit-learn ships."""
    import sklearn.datasets

    return sorted(Path(sklearn.datasets.__file__).with_name("images").glob("*.jpg"))


def png_photographs(n: int) -> list[Path]:
    """Return some photographs of solar cells, none where the package isn't installed."""
    found = importlib.util.find_spec("elpv_dataset")
    folders = found.submodule_search_locations if found else []
    return sorted(path for folder in folders for path in Path(folder).rglob("*.png"))[:n]


def encode(image: Image.Image, kind: str) -> bytes:
    """Write a picture as one of `KINDS`."""
    file = io.BytesIO()
    if kind == "16-bit PNG":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(file, "PNG")
    elif kind == "palette PNG":
        image.convert("P").save(file, "PNG", transparency=3)
    elif kind == "progressive JPEG":
        image.save(file, "JPEG", progressive=True)
    elif kind == "LZW TIFF":
        image.save(file, "TIFF", compression="tiff_lzw")
    elif kind == "GIF":
        image.save(file, kind, save_all=True, append_images=[image.rotate(90)])
    else:
        image.save(file, kind)
    return file.getvalue()


def crops(path: Path, side: int = 48) -> list[bytes]:
    """Return a small piece of a photograph, once as each of `KINDS`."""
    with Image.open(path) as image:
        piece = image.convert("RGB").crop((100, 100, 100 + side, 100 + side // 2))
    return [encode(piece, kind) for kind in KINDS]


def mutate(files: list[bytes], n: int, seed: int) -> Iterator[bytes]:
    """Yield so many files, each one of those given with one to three things done to it."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        data = bytearray(files[rng.integers(len(files))])
        for _ in range(rng.integers(1, 4)):
            if data:
                data = _WAYS[rng.integers(len(_WAYS))](data, rng, files)
        yield bytes(data)


def _flip_bits(data, rng, files):
    for place in rng.integers(0, len(data), rng.integers(1, 17)):
        data[place] ^= 1 << rng.integers(8)
    return data


def _cut(data, rng, files):
    return data[: rng.integers(len(data))]


def _splice(data, rng, files):
    other = files[rng.integers(len(files))]
    return data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]


def _repeat(data, rng, files):
    start, stop = np.sort(rng.integers(0, len(data), 2))
    return data[:stop] + data[start:stop] * int(rng.integers(1, 4)) + data[stop:]


def _leave_out(data, rng, files):
    start = rng.integers(len(data))
    return data[:start] + data[start + rng.integers(1, 200) :]


def _zeros(data, rng, files):
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 500)))
    data[start:stop] = bytes(stop - start)
    return data


def _number_in(data, rng, most):
    width, order = (1, 2, 4)[rng.integers(3)], ("big", "little")[rng.integers(2)]
    number = _ODD_NUMBERS[rng.integers(len(_ODD_NUMBERS))] % 256**width
    place = int(rng.integers(min(most, len(data))))
    data[place : place + width] = number.to_bytes(width, order)
    return data


def _header_field(data, rng, files):
    return _number_in(data, rng, 64)


def _field(data, rng, files):
    return _number_in(data, rng, len(data))


_WAYS = (_flip_bits, _cut, _splice, _repeat, _leave_out, _zeros, _header_field, _header_field, _field)
