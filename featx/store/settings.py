"""Record what decides the features of a store, and compare it before a run resumes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from featx.system import sha256_of

STORE_DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers in a store depend on, next to the images.

    Attributes
    ----------
    backbone, weights, weights_sha256 : str
        The network, the name of its weights, and the digest of the weights that were used.
    layers : tuple of str
        The features' names, in network order: Keras's, and `<layer>:max` and the like for further poolings.
    pooling : str
        See `featx.networks.pooling.POOLINGS`; several are separated by commas.
    image_size : int
        Height and width, pixels.
    resize, interpolation, preprocessing : str
        How an image became the network's input.
    precision : str
        The network's arithmetic.
    keras_backend : str
        tensorflow, jax or torch.
    engine : str
        What ran the network; one of `featx.inference.engines.ENGINES`.
    views : str
        See `featx.images.VIEWS`.
    store_dtype : str
        How the features are stored: float32 or float16.
    jpeg : str
        How JPEGs were decoded; one of `featx.images.JPEGS`.
    icc : str
        How ICC profiles were used; one of `featx.images.ICCS`.
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
    engine: str
    views: str
    store_dtype: str
    jpeg: str
    icc: str

    @classmethod
    def from_record(cls, recorded: Mapping[str, object]) -> "Settings":
        """Make settings from a store's attributes, or from another record.

        Raises
        ------
        KeyError
            If one is missing.
        """
        values = {field.name: recorded[field.name] for field in fields(cls)}
        return cls(**values | {"layers": tuple(values["layers"])})

    @property
    def sha256(self) -> str:
        """Digest of the settings in their canonical form: JSON with sorted keys, without `_NOT_IN_DIGEST`."""
        record = {name: value for name, value in asdict(self).items() if value != _NOT_IN_DIGEST.get(name)}
        return sha256_of(json.dumps(record, sort_keys=True))

    def changes_from(self, recorded: Mapping[str, object]) -> list[str]:
        """Name every setting that differs from a record of settings, with both values."""
        mine = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return [
            f"{name} {recorded.get(name)!r}, now {mine[name]!r}" for name in mine if mine[name] != recorded.get(name)
        ]


# The digest leaves these values out.
_NOT_IN_DIGEST = {"engine": "keras", "views": "none", "store_dtype": "float32", "jpeg": "full", "icc": "ignore"}
