"""Declare the options of an extraction."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from featx.images import ImageOptions
from featx.inference import NetworkOptions
from featx.system import Range, option

if TYPE_CHECKING:
    from collections.abc import Callable

    from featx.inference import PooledNetwork


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(ImageOptions, NetworkOptions):
    """What `featx.extract_features` is asked for: the network, its images, and how features are stored."""

    store_dtype: Literal["float32", "float16"] = option(
        "float32", "Type of the stored features; float16 takes half the disk and keeps three digits."
    )
    max_rejected: Annotated[int | float, Range(0, 1, counts=True, percent=True)] | None = option(
        None,
        "Stop as soon as more images than this can't be read: a count such as 10, or a share of all images.",
        unset="any number",
        metavar="COUNT|SHARE%",
    )

    def settle_image_size(self) -> "ExtractOptions":
        """Return the same with the network's own image size where none was given."""
        from featx.inference import own_image_size

        if self.image_size is not None:
            return self
        return replace(self, image_size=own_image_size(self.backbone, self.weights))

    def build(self, echo: "Callable[[str], None]", **changes: str) -> "PooledNetwork":
        """Build the network; changes replace options."""
        from featx.inference import build_network

        changed = self.change(**changes)
        return build_network(**changed.keywords(NetworkOptions), image_size=changed.image_size, echo=echo)

    def record(self) -> dict[str, Any]:
        """Return the options that features depend on, as JSON can hold them."""
        return self.keywords(NetworkOptions) | self.keywords(ImageOptions) | {"store_dtype": self.store_dtype}
