"""Record what decides the features of a store, and compare it before a run resumes."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields

from featx.system import sha256_of

STORE_DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers in a store depend on, beside the images.

    Attributes
    ----------
    backbone, weights, weights_sha256 : str
        The network, what was asked for as its weights, and the digest of those that took part.
    layers : tuple of str
        The features' names, in network order: Keras layer names; `<layer>:max` and the like of further poolings.
    pooling : str
        See `featx.networks.pooling.POOLINGS`; several with commas.
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
        What was made of ICC profiles; one of `featx.images.ICCS`. Older stores did not ask for them.
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
    engine: str = "keras"
    views: str = "none"
    store_dtype: str = "float32"
    jpeg: str = "full"
    icc: str = "ignore"

    @classmethod
    def from_record(cls, recorded: Mapping[str, object]) -> "Settings":
        """Make settings of a store's attributes, or of another record; older ones lack what was the only way then.

        Raises
        ------
        KeyError
            If one is missing.
        """
        values = {field.name: (_SINCE_THEN | dict(recorded))[field.name] for field in fields(cls)}
        return cls(**values | {"layers": tuple(values["layers"])})

    @property
    def sha256(self) -> str:
        """Digest of the settings in their canonical form (JSON, sorted keys).

        Settings that older stores don't have count only where they differ from what was the only way then.
        """
        record = {name: value for name, value in asdict(self).items() if value != _SINCE_THEN.get(name)}
        return sha256_of(json.dumps(record, sort_keys=True))

    def changes_from(self, recorded: Mapping[str, object]) -> list[str]:
        """Name every setting that differs from a record of settings, with both values."""
        mine = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        theirs = _SINCE_THEN | dict(recorded)
        return [f"{name} {theirs.get(name)!r}, now {mine[name]!r}" for name in mine if mine[name] != theirs.get(name)]


_SINCE_THEN = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}
