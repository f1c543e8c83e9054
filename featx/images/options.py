"""Declare how an image file becomes pixels."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from featx.system import Options, Range, option, options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from featx.images.decode import Picture


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """How an image file becomes pixels."""

    image_size: Annotated[int, Range(32, 4096)] | None = option(
        None, "Height and width in pixels.", unset="the network's own"
    )
    resize: Literal["squash", "crop", "pad"] = option(
        "squash", "Treatment of images that are not square: ignore the shape, cut the long side, or fill with black."
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = option("bilinear", "Interpolation between pixels.")
    jpeg: Literal["full", "scaled"] = option(
        "full", "Decoding of JPEGs; scaled: those at least twice as large as needed at a part of their size."
    )
    icc: Literal["convert", "ignore"] = option(
        "convert", "Treatment of ICC profiles; convert: show colours as the profile says, in sRGB."
    )

    @classmethod
    def of(cls, settings: Any) -> "ImageOptions":
        """Return the options in settings, such as those that a store records."""
        return cls(**{name: getattr(settings, name) for name in options_of(ImageOptions)})

    def reader(self, known: set[str] | frozenset[str] = frozenset()) -> "Callable[[Path], Picture]":
        """Return a function that reads an image; files whose digest is in `known` are not decoded."""
        from featx.images import read_picture

        return partial(read_picture, **self.keywords(ImageOptions), known=known)

    def read(self, path: Path) -> "Picture":
        """Read an image; see `featx.images.read_picture`."""
        return self.reader()(path)


@dataclass(frozen=True, kw_only=True)
class SourceOptions(Options):
    """How a folder or a table of images is read; see `featx.read_source`."""

    path_column: str = option("path", "CSV column of the paths.")
    label_column: str = option("label", "CSV column of the labels; '' for images without labels.")
    split_column: str | None = option(
        None, "CSV column of the splits; '' for none.", unset="split, if there is such a column"
    )
    group_column: str | None = option(
        None,
        "CSV column of the groups: images of one group stay in one split; '' for none.",
        unset="group, if there is such a column",
    )
    root: str | None = option(
        None, "Folder where the paths of a CSV start.", unset="the folder of the CSV", metavar="PATH"
    )
