"""What decides the features of a store: the record that is kept with them and compared before a run goes on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers in a store depend on, beside the images.

    Attributes
    ----------
    backbone, weights, weights_sha256 : str
        The network, what was asked for as its weights, and the digest of those that took part.
    layers : tuple of str
        Keras layer names, in network order.
    pooling : str
        `avg`: the spatial mean.
    image_size : int
        Height and width, pixels.
    resize, interpolation, preprocessing : str
        How an image became the network's input.
    precision : str
        The network's arithmetic.
    keras_backend : str
        tensorflow, jax or torch.
    """

    backbone: str
    weights: str
    weights_sha256: str
    layers: tuple[str, ...]
    pooling: str
    image_size: int
    resize: str
    interpolation: str
    preprocessing: str
    precision: str
    keras_backend: str

    @property
    def sha256(self) -> str:
        """Digest of the settings in their canonical form (JSON, sorted keys)."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def changes_from(self, recorded: Mapping[str, object]) -> list[str]:
        """Name every setting that differs from a record of settings, with both values."""
        mine = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return [
            f"{name} {recorded.get(name)!r}, now {mine[name]!r}" for name in mine if mine[name] != recorded.get(name)
        ]
