"""Build the network that made a store's or run's features again from the recorded settings, and check its weights."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from featx.errors import FeatxError, WeightsError
from featx.images import ImageOptions
from featx.inference.network import PooledNetwork, build_frozen, build_network, run_frozen
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
        If the record has no value for one, was changed, or has a value that this featx doesn't know.
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
                f"{path}: this featx doesn't know {name} {recorded[name]!r} of this {what} (it knows "
                f"{', '.join(known)}): pip install --upgrade featx"
            )
    choose_poolings(str(recorded["pooling"]))


def read_layers(run_path: str | Path, run: Run, settings: Settings) -> list[str]:
    """Return the layers that a run was fitted on, in the order of its model's columns."""
    layers = run.store.get("layers")
    if not layers or not set(layers) <= set(settings.layers):
        raise FeatxError(
            f"{run_path}: the layers in run.json, {layers!r}, are not among its store's "
            f"({', '.join(settings.layers)}): fit the run again"
        )
    return list(layers)


def build_recorded(
    source: str | Path,
    settings: Settings,
    weights: str | None = None,
    *,
    echo: Callable[[str], None] = lambda line: None,
) -> FrozenBackbone:
    """Build the frozen network that made a store's features, with all of the store's layers, and check its weights.

    The recorded digest covers all weights up to the deepest of these layers.

    Parameters
    ----------
    source : path
        The store or run that `settings` come from, for messages.
    settings : Settings
        Of the store.
    weights : str, optional
        Default: those on record; a file or a run must be named.
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Raises
    ------
    WeightsError
        If the weights are missing, or are not those that made the features.
    """
    name = weights or _recorded_weights(source, settings)
    frozen = build_frozen(
        settings.backbone,
        layers=tuple(dict.fromkeys(map(layer_of, settings.layers))),
        weights=name,
        image_size=settings.image_size,
        preprocessing=settings.preprocessing,
        echo=echo,
    )
    if frozen.weights_sha256 != settings.weights_sha256:
        advice = "Leave `weights` out" if is_source(settings.weights) else "Give those as `weights`"
        raise WeightsError(
            f"weights {name!r}: not those that made the features of {source} (SHA-256 {frozen.weights_sha256[:16]}..., "
            f"expected {settings.weights_sha256[:16]}... of {settings.weights!r}). {advice}"
        )
    return frozen


def rebuild_network(
    run_path: str | Path,
    settings: Settings,
    *,
    weights: str | None = None,
    batch_size: int = 8,
    echo: Callable[[str], None] = lambda line: None,
) -> PooledNetwork:
    """Build the network that made a store's features, on its engine if that is installed; see `build_recorded`."""
    network = run_frozen(
        build_recorded(run_path, settings, weights, echo=echo),
        choose_poolings(settings.pooling),
        views=settings.views,
        engine=_installed_engine(settings, echo),
        precision=settings.precision,
        batch_size=batch_size,
    )
    backend = load_keras().backend.backend()
    if network.engine.name == "keras" and backend != settings.keras_backend:
        echo(f"features were made by Keras on {settings.keras_backend}, now on {backend}: last digits may differ")
    return network


def rebuild_finetuned(
    run_path: str | Path,
    settings: Settings,
    *,
    weights: str | None = None,
    batch_size: int = 8,
    echo: Callable[[str], None] = lambda line: None,
) -> PooledNetwork:
    """Build the network of a fine-tuned run, up to its probabilities, for the fastest engine here."""
    if weights is not None:
        raise FeatxError(
            f"{run_path} is a fine-tuned network with its own weights; leave {weights} out", parameter="weights"
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
    """Return the recorded weights if featx can find them by their name; files and runs it can't."""
    name = settings.weights
    if is_source(name):
        return name
    kind = "file" if is_file_name(name) else "folder of the fine-tuned run"
    raise WeightsError(f"{run_path}: its weights came from the {kind} {name!r}: give its path as `weights`")


def _installed_engine(settings: Settings, echo: Callable[[str], None]) -> str:
    """Return the store's engine, or keras if that isn't installed."""
    if settings.engine == "keras" or importlib.util.find_spec(settings.engine):
        return settings.engine
    echo(f"features were made by {settings.engine}, which isn't installed here, now by keras: last digits may differ")
    return "keras"
