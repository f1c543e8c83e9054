"""Run pixels through a frozen network to pooled features, on an engine, for every view of an image."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from featx.images import make_views, n_views
from featx.inference.batch_size import DEFAULT
from featx.inference.engines.base import Engine, make_engine, settle_batch_size
from featx.networks import FrozenBackbone, build_backbone, choose_poolings, find_backbone, load_keras
from featx.results import build_from_run, is_run, read_finetuned


def own_image_size(backbone: str, weights: str) -> int:
    """Return the height and width that a network's images have by default.

    Parameters
    ----------
    backbone, weights
        See `build_frozen`.

    Raises
    ------
    FeatxError
        If there is no such backbone, or the folder is none of a fine-tuned run.
    """
    return read_finetuned(weights).image_size if is_run(weights) else find_backbone(backbone).image_size


def build_frozen(
    backbone: str = "vgg16",
    *,
    layers: str | Sequence[str] = "all",
    weights: str = "imagenet",
    image_size: int | None = None,
    preprocessing: str | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> FrozenBackbone:
    """Build a frozen network: a backbone, or a network that was fine-tuned.

    A fine-tuned one has the backbone's layers up to the one that its head is on, and those of its head. `all` and `fc`
    take in the head's fully connected layers, and `predictions` stands for the probabilities of its own classes. Its
    image size and preprocessing are by default those that it was trained with.

    Parameters
    ----------
    backbone, layers, weights, image_size, preprocessing, echo
        See `featx.inference.build_network`.

    Raises
    ------
    FeatxError
        If a layer is unknown, the weights or its part of them are missing, or the sizes don't fit.
    """
    if is_run(weights):
        return build_from_run(
            read_finetuned(weights), backbone, layers, image_size=image_size, preprocessing=preprocessing
        )
    return build_backbone(
        backbone, layers=layers, weights=weights, image_size=image_size, preprocessing=preprocessing, echo=echo
    )


@dataclass(frozen=True)
class PooledNetwork:
    """A frozen network that gives the pooled activations of chosen layers.

    Attributes
    ----------
    engine : Engine
        What runs it.
    batch_size : int
        The most images of one call.
    views : str
        Which views of an image the features are averaged over; one of `featx.images.VIEWS`.
    pooling : str
        The poolings, with commas, in featx's own order.
    image_size : int
        Height and width of the images, pixels.
    preprocessing : str
        What the weights expect.
    weights_name, weights_sha256 : str
        Where the weights come from, and the digest of every weight that is used.
    """

    engine: Engine
    batch_size: int
    views: str
    pooling: str
    image_size: int
    preprocessing: str
    weights_name: str
    weights_sha256: str

    @property
    def has_own_device(self) -> bool:
        """Return whether the network leaves the processor's cores to others while it computes."""
        return not self.engine.device.startswith("cpu")

    @property
    def n_channels(self) -> Mapping[str, int]:
        """Features by name, in network order."""
        return self.engine.n_channels

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Turn pixels (n, image_size, image_size, 3), uint8, at most a batch, into {name: features (n, channels)}."""
        return self.submit(pixels)()

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Hand images over, and return at once what waits for their features.

        A device of its own computes while the caller makes the next batch; another engine begins when it is waited for.

        Parameters
        ----------
        pixels : ndarray of shape (n, image_size, image_size, 3), uint8
            At most `batch_size` images; they must not change until the features are returned.

        Returns
        -------
        callable
            Takes nothing, returns what calling the network does.
        """
        begin = getattr(self.engine, "submit", None) or partial(partial, self.engine)
        if self.views == "none":
            return begin(pixels)
        started = [begin(np.ascontiguousarray(view)) for view in make_views(pixels, self.views)]

        def fetch() -> dict[str, np.ndarray]:
            sums = {name: np.zeros((len(pixels), width)) for name, width in self.n_channels.items()}
            for wait in started:
                for name, features in wait().items():
                    sums[name] += features
            return {name: (total / n_views(self.views)).astype(np.float32) for name, total in sums.items()}

        return fetch


def build_network(
    backbone: str = "vgg16",
    *,
    layers: str | Sequence[str] = "all",
    weights: str = "imagenet",
    image_size: int | None = None,
    preprocessing: str | None = None,
    pool: str = "avg",
    views: str = "none",
    engine: str = "auto",
    precision: str = "float32",
    batch_size: int | str = DEFAULT,
    echo: Callable[[str], None] = lambda line: None,
) -> PooledNetwork:
    """Build a frozen backbone, load its weights and pool the chosen layers.

    Activations with height and width (of a convolution: after its ReLU, where it has one) give their spatial mean, a
    fully connected layer its activations as they are: the full-network embedding of Garcia-Gasulla et al. 2017 (arXiv
    1705.07706).

    Parameters
    ----------
    backbone : str, default "vgg16"
        One of `featx.networks.BACKBONES`.
    layers : str or sequence of str, default "all"
        Names of layers and of sets; one text has commas between them. See
        `featx.networks.Backbone` and `featx.networks.summarize_layers`.
    weights : str, default "imagenet"
        See `featx.networks.load_weights`; or the folder of a fine-tuned run, see `featx.inference.build_frozen`.
    image_size : int, optional
        Height and width of the images, pixels; default: what the backbone was published with, or fine-tuned with. No
        other fits where VGG's fully connected layers with published weights are used, or those of a flattened map.
    preprocessing : str, optional
        What the weights expect, one of `featx.networks.PREPROCESSINGS`; default: what the backbone was published
        with, or fine-tuned with.
    pool : str, default "avg"
        Poolings, separated by commas; see `featx.networks.pooling.POOLINGS`.
    views : {"none", "flip", "dihedral"}, default "none"
        See `featx.images.VIEWS`.
    engine : {"auto", "keras", "ncnn"}, default "auto"
        See `featx.inference.engines.ENGINES`. Engines agree within 1e-4 (norm of the difference, relative, over a
        layer).
    precision : {"float32", "float16", "bfloat16"}, default "float32"
        The network's weights and arithmetic; see `featx.inference.engines.PRECISIONS`. Pixels are prepared and
        activations pooled in float32, and the features are float32.
    batch_size : int or "auto", default 8
        `auto` is found by trying on a GPU; on a CPU it is 8, or as many as there are cores where ncnn takes one a core.
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Raises
    ------
    FeatxError
        If a layer is unknown or missing from the weights, or the sizes don't fit.
    """
    poolings = choose_poolings(pool)
    frozen = build_frozen(
        backbone,
        layers=layers,
        weights=weights,
        image_size=image_size,
        preprocessing=preprocessing,
        echo=echo,
    )
    return run_frozen(frozen, poolings, views=views, engine=engine, precision=precision, batch_size=batch_size)


def run_frozen(
    frozen: FrozenBackbone,
    poolings: tuple[str, ...],
    *,
    views: str = "none",
    engine: str = "auto",
    precision: str = "float32",
    batch_size: int | str = DEFAULT,
) -> PooledNetwork:
    """Choose an engine for a frozen network.

    Parameters
    ----------
    frozen : FrozenBackbone
    poolings : tuple of str
        See `featx.networks.plan_features`.
    views, engine, precision, batch_size
        See `build_network`.
    """
    runner = make_engine(engine, frozen, poolings, batch_size=batch_size, precision=precision)
    return PooledNetwork(
        engine=runner,
        batch_size=settle_batch_size(runner, batch_size),
        views=views,
        pooling=",".join(poolings),
        image_size=frozen.image_size,
        preprocessing=frozen.preprocessing,
        weights_name=frozen.weights_name,
        weights_sha256=frozen.weights_sha256,
    )


def engines_record(engines: Iterable["Engine"], stored: Mapping[str, object]) -> dict[str, str]:
    """Return versions and devices: those of the store that is added to, and those of a run, each once, with commas.

    Parameters
    ----------
    engines : iterable of Engine
        What computed features in this run.
    stored : mapping of str to object
        Attributes of the store that is added to; empty if there is none.
    """
    names = ("keras_version", "engine_version", "device")
    found = {name: str(stored[name]).split(", ") if stored.get(name) else [] for name in names}
    for engine in engines:
        found["keras_version"].append(load_keras().__version__)
        found["engine_version"].append(engine.version)
        found["device"].append(engine.device)
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items() if values}
