"""Build again the network that made the features of a run or a store, and compare its weights."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from featx.errors import FeatxError, WeightsError
from featx.images import ImageOptions
from featx.inference.network import PooledNetwork, build_frozen, build_network
from featx.inference.options import NetworkOptions
from featx.networks import (
    FrozenBackbone,
    choose_poolings,
    is_file_name,
    is_source,
    layer_of,
    load_keras,
)
from featx.networks.recipes import PREDICTIONS
from featx.results import Run
from featx.store import STORE_DTYPES, Settings
from featx.system import options_of

_SUPPORTED = {
    name: each.values.words
    for name, each in (options_of(NetworkOptions) | options_of(ImageOptions)).items()
    if each.values.kind is str and each.values.words
} | {"store_dtype": STORE_DTYPES}


def read_settings(run_path: str | Path, run: Run) -> Settings:
    """Return the settings of the store that a run was fitted on.

    Raises
    ------
    FeatxError
        If the record misses one, was changed, or has values that this featx doesn't know.
    """
    recorded = run.store | {"layers": run.store.get("store_layers")}
    missing = [field.name for field in fields(Settings) if recorded.get(field.name) is None]
    if missing:
        raise FeatxError(
            f"{run_path}: run.json has no {', '.join(missing)} of its store: make the run again, on a store that featx "
            "verify finds whole"
        )
    check_known(run_path, recorded, "run")
    settings = Settings.from_record(recorded)
    if settings.sha256 != run.store.get("settings_sha256"):
        raise FeatxError(
            f"{run_path}: the settings in run.json are not those of the store that it was fitted on (their digests "
            "differ): make the run again, on a store that featx verify finds whole"
        )
    return settings


def check_known(path: str | Path, recorded: Mapping[str, object], what: str) -> None:
    """Raise an error for recorded settings, of a run or a store, that this featx doesn't know."""
    for name, known in _SUPPORTED.items():
        if recorded[name] not in known:
            raise FeatxError(
                f"{path}: {name} {recorded[name]!r} of this {what} is none that this featx knows "
                f"({', '.join(known)}): pip install --upgrade featx"
            )
    choose_poolings(str(recorded["pooling"]))


def read_layers(run_path: str | Path, run: Run, settings: Settings) -> list[str]:
    """Return the layers that a run was fitted on, in the order of its model's columns.

    Raises
    ------
    FeatxError
        If they are not layers of the run's store.
    """
    layers = run.store.get("layers")
    if not layers or not set(layers) <= set(settings.layers):
        raise FeatxError(
            f"{run_path}: the layers in run.json, {layers!r}, are not among its store's "
            f"({', '.join(settings.layers)}): fit the run again"
        )
    return list(layers)


def rebuild_network(
    run_path: str | Path,
    settings: Settings,
    *,
    weights: str | None = None,
    batch_size: int = 8,
    echo: Callable[[str], None] = lambda line: None,
) -> PooledNetwork:
    """Build the network that made a store's features, with all of the store's layers.

    The digest on record covers the weights up to the deepest of these layers, and the features of some of them come
    from the same computation as the store's.

    Parameters
    ----------
    run_path : path
        For messages.
    settings : Settings
        Of the store.
    weights : str, optional
        Default: those on record.
    batch_size : int, default 8
    echo : callable, optional
        Is told what a user should know, a line at a time.

    Raises
    ------
    FeatxError
        If the weights are not there, or are others than the store's.
    """
    weights = weights or _recorded_weights(run_path, settings)
    network = build_network(
        settings.backbone,
        layers=_layer_names(settings),
        weights=weights,
        image_size=settings.image_size,
        preprocessing=settings.preprocessing,
        pool=settings.pooling,
        views=settings.views,
        engine=_engine_at_hand(settings, echo),
        precision=settings.precision,
        batch_size=batch_size,
        echo=echo,
    )
    _check_weights(settings, weights, network.weights_sha256, f"of {run_path}")
    backend = load_keras().backend.backend()
    if network.engine.name == "keras" and backend != settings.keras_backend:
        echo(f"features were made by Keras on {settings.keras_backend}, now on {backend}: last digits may differ")
    return network


def build_recorded(settings: Settings, weights: str) -> FrozenBackbone:
    """Build the backbone that made a store's features, and compare its weights with the store's digest.

    Parameters
    ----------
    settings : Settings
        The store's.
    weights : str
        See `build_frozen`.

    Raises
    ------
    WeightsError
        If these are not the weights that made the features.
    """
    frozen = build_frozen(
        settings.backbone,
        # All layers of the features: the digest is of all weights that were used.
        layers=_layer_names(settings),
        weights=weights,
        image_size=settings.image_size,
        preprocessing=settings.preprocessing,
    )
    _check_weights(settings, weights, frozen.weights_sha256, "that made the store's features")
    return frozen


def _layer_names(settings: Settings) -> str:
    return ",".join(dict.fromkeys(map(layer_of, settings.layers)))


def _check_weights(settings: Settings, weights: str, sha256: str, whose: str) -> None:
    if sha256 != settings.weights_sha256:
        raise WeightsError(
            f"weights {weights!r}: not those {whose} (SHA-256 {sha256[:16]}..., expected "
            f"{settings.weights_sha256[:16]}... of {settings.weights!r}). Name the right ones with `weights`"
        )


def rebuild_finetuned(
    run_path: str | Path,
    settings: Settings,
    *,
    weights: str | None = None,
    batch_size: int = 8,
    echo: Callable[[str], None] = lambda line: None,
) -> PooledNetwork:
    """Build the network of a fine-tuned run, up to its probabilities, for the fastest engine here.

    Parameters
    ----------
    run_path : path
        The run's folder.
    settings : Settings
        Of the store that it was fine-tuned on.
    weights : str, optional
        None but the run's own are taken.
    batch_size : int, default 8
    echo : callable, optional
        Is told what a user should know, a line at a time.

    Raises
    ------
    FeatxError
        If other weights are named, or the run's own are not there.
    """
    if weights is not None:
        raise FeatxError(
            f"found {weights!r}, and {run_path} is a fine-tuned network with its own weights; leave that out",
            parameter="weights",
        )
    return build_network(
        settings.backbone,
        layers=PREDICTIONS,
        # Absolute, a folder's name can't be taken for a word such as imagenet.
        weights=str(Path(run_path).absolute()),
        image_size=settings.image_size,
        preprocessing=settings.preprocessing,
        batch_size=batch_size,
        echo=echo,
    )


def _recorded_weights(run_path: str | Path, settings: Settings) -> str:
    """Return the weights on record if their name says where they come from; the name of a file or a run doesn't."""
    name = settings.weights
    if is_source(name):
        return name
    kind, place = ("file", "FILE") if is_file_name(name) else ("fine-tuned run", "RUN, its folder")
    raise WeightsError(f"{run_path}: its weights came from the {kind} {name!r}: say where it is with `weights` {place}")


def _engine_at_hand(settings: Settings, echo: Callable[[str], None]) -> str:
    """Return the store's engine, or the reference where that isn't installed."""
    if settings.engine == "keras" or importlib.util.find_spec(settings.engine):
        return settings.engine
    echo(f"features were made by {settings.engine}, which isn't installed here, now by keras: last digits may differ")
    return "keras"
