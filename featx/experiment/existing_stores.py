"""Whether a store is there that an experiment asks for: its settings, its weights, its layers and its images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment.schema import StoreSpec
from featx.extract import Base, check_same_images, find_lost_images, is_same_table, read_base
from featx.images import Manifest, digest_paths
from featx.inference import build_frozen, own_image_size
from featx.networks import BACKBONES, choose_poolings, expand_layers, is_source, layer_of
from featx.results import is_run, read_finetuned
from featx.store import RunFolder

WITHOUT_PIXELS = ("another order of the images", "other labels, splits or columns of the images")
"""What a store may lack that is in its table alone: nothing is computed for it."""


_PLAIN = ("backbone", "resize", "interpolation", "precision", "jpeg", "icc", "views", "store_dtype")


# What stores lack that were made before there was a choice.
_SINCE_THEN = {"engine": "keras", "views": "none", "store_dtype": "float32", "jpeg": "full", "icc": "ignore"}


@dataclass(frozen=True)
class Found:
    """What is there of a stage.

    Attributes
    ----------
    status : str
        missing; unfinished: it was stopped, and goes on; incomplete: a store that lacks layers or images, and is added
        to; there; or other: made with other settings.
    details : tuple of str
        What it lacks, or what differs.
    is_addition : bool
        Whether what has other settings is no store, but parts that were to be added to one.
    """

    status: str
    details: tuple[str, ...] = ()
    is_addition: bool = False


def find_store(spec: StoreSpec, path: Path, manifest: Manifest | None, *, run_path: Path | None = None) -> Found:
    """Say what is there of a store.

    Parameters
    ----------
    spec : StoreSpec
    path : Path
        Where it should be.
    manifest : Manifest or None
        The images that it should have; None: any.
    run_path : Path, optional
        Of the fine-tuned run, whose network it is.
    """
    if run_path is None and is_run(spec.weights):
        run_path = Path(spec.weights)
    if run_path is not None and not run_path.exists():
        # A network that is yet to be trained is none that parts were made by.
        begun = path.exists() or RunFolder(path).settings_and_source() is not None
        return Found("other", (f"of a network that is not there: {run_path}",)) if begun else Found("missing")
    if not path.exists():
        return _find_parts(spec, path, manifest, run_path)
    try:
        base = read_base(path)
        made = {name: base.attributes.get(name, _SINCE_THEN.get(name)) for name in (*_PLAIN, *_OTHERS)}
        differences = list(_setting_differences(spec, made, run_path))
        if manifest is not None and (lost := len(find_lost_images(base, manifest))):
            differences.append(f"{lost:,} images that the source no longer has")
        if differences:
            return Found("other", tuple(differences))
        lacking, further = _compare_features(spec, base, run_path)
        if further:
            return Found("other", (f"it has more: {' and '.join(further)}",))
        if manifest is not None:
            check_same_images(base, manifest)
            lacking += _other_rows(base, manifest)
        if not lacking:
            return Found("there")
        begun = _addition_differences(spec, base, manifest, run_path)
    except FeatxError as error:
        return Found("other", (str(error),))
    if begun:
        text = f"{RunFolder(path).path}: an unfinished addition to it, begun with {'; '.join(begun)}"
        return Found("other", (text,), is_addition=True)
    return Found("incomplete", tuple(lacking))


_OTHERS = ("image_size", "preprocessing", "engine", "weights", "pooling")


def _setting_differences(spec: StoreSpec, made: Mapping[str, object], run_path: Path | None) -> Iterator[str]:
    """Name what a store, or parts of one, were made with otherwise; what can be added is not among it."""
    weights = str(run_path) if run_path is not None else spec.weights
    own = (read_finetuned(run_path) if run_path is not None else BACKBONES[spec.backbone]).preprocessing
    wanted = {name: getattr(spec, name) for name in _PLAIN}
    wanted["image_size"] = spec.image_size or own_image_size(spec.backbone, weights)
    wanted["preprocessing"] = spec.preprocessing or own
    wanted["weights"] = name_weights(weights)
    if spec.engine != "auto":
        wanted["engine"] = spec.engine
    for name, value in wanted.items():
        if made.get(name) != value:
            yield f"{name} {made.get(name)!r}, now {value!r}"


def name_weights(weights: str) -> str:
    """Return what a store's settings call weights."""
    if weights.partition(":")[0] == "random":
        return f"random:{int(weights.partition(':')[2] or 0)}"
    return weights if is_source(weights) else Path(weights).resolve().name


def _find_parts(spec: StoreSpec, path: Path, manifest: Manifest | None, run_path: Path | None) -> Found:
    """Look for the parts of a store that isn't whole yet."""
    begun = RunFolder(path).settings_and_source()
    if begun is None:
        return Found("missing")
    settings, source = begun
    differences = list(_setting_differences(spec, settings, run_path))
    if not differences:
        stored = _stored_layers(settings)
        try:
            wanted = _wanted_layers(spec, settings, stored, run_path)
            differences += _feature_differences(settings, wanted, choose_poolings(spec.pool))
        except FeatxError as error:
            differences.append(str(error))
    differences += _image_differences(source, manifest)
    if differences:
        return Found("other", (f"an unfinished store, begun with {'; '.join(differences)}",))
    return Found("unfinished")


def _addition_differences(
    spec: StoreSpec, base: Base, manifest: Manifest | None, run_path: Path | None
) -> Sequence[str]:
    """Name what parts that were to be added to a store were begun with otherwise; see `featx.extract.add`."""
    folder = RunFolder(base.path)
    begun = folder.settings_and_source()
    if begun is None:
        return []
    if folder.adds_to() != base.run_id:
        return ["another store to add to" if folder.adds_to() else "--overwrite, in the place of it"]
    settings, source = begun
    stored = _stored_layers({"layers": base.settings.layers})
    wanted = {*stored, *_wanted_layers(spec, base.attributes, stored, run_path)}
    poolings = choose_poolings(f"{base.settings.pooling},{spec.pool}")
    return [*_feature_differences(settings, wanted, poolings), *_image_differences(source, manifest)]


def _stored_layers(settings: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(layer_of, settings.get("layers", ()))))


def _feature_differences(
    settings: Mapping[str, object], layers: Iterable[str], poolings: Sequence[str]
) -> Iterator[str]:
    """Name layers and poolings of parts that are others than those they should have."""
    begun = _stored_layers(settings)
    if set(begun) != set(layers):
        yield f"layers {_few(begun)}, now {_few(layers)}"
    if settings.get("pooling") != ",".join(poolings):
        yield f"pooling {settings.get('pooling')!r}, now {','.join(poolings)!r}"


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join([*names[:3], *([f"... ({len(names)})"] if len(names) > 3 else [])]) or "none"


def _image_differences(source: Mapping[str, object], manifest: Manifest | None) -> Iterator[str]:
    if manifest is not None:
        now = {"root": str(manifest.root), "paths_sha256": digest_paths(manifest)}
        yield from (f"another {_WORDS[name]}" for name in now if now[name] != source.get(name))


_WORDS = {"root": "folder of images", "paths_sha256": "list of images"}


def _compare_features(spec: StoreSpec, base: Base, run_path: Path | None) -> tuple[list[str], list[str]]:
    """Name layers and poolings that a store of the same settings lacks, and those that it has beyond what is asked for.

    What `all` of its features are to a fit hangs on both.

    Raises
    ------
    FeatxError
        If its weights are others of the same name.
    """
    stored = _stored_layers({"layers": base.settings.layers})
    poolings = choose_poolings(spec.pool)
    wanted = _wanted_layers(spec, base.attributes, stored, run_path)
    lacking = [*_name_layers(wanted, stored), *_name_poolings(poolings, base.settings.pooling.split(","))]
    further = [*_name_layers(stored, wanted), *_name_poolings(base.settings.pooling.split(","), poolings)]
    return lacking, further


def _wanted_layers(
    spec: StoreSpec, made: Mapping[str, object], stored: tuple[str, ...], run_path: Path | None
) -> tuple[str, ...]:
    """Return the layers that a store is asked for; those of a file or a run only the network itself tells."""
    if run_path is not None or not is_source(spec.weights):
        return _layers_of_file(spec, made, stored, run_path)
    wanted = expand_layers(spec.layers, BACKBONES[spec.backbone])
    if spec.weights == "imagenet-conv":
        wanted = tuple(name for name in wanted if name not in BACKBONES[spec.backbone].top)
    return wanted


def _name_layers(these: Sequence[str], those: Sequence[str]) -> Iterator[str]:
    others = [name for name in these if name not in those]
    if others:
        shown = ", ".join([*others[:3], *(["..."] if len(others) > 3 else [])])
        yield f"{len(others)} layer{'s' if len(others) > 1 else ''} ({shown})"


def _name_poolings(these: Sequence[str], those: Sequence[str]) -> Iterator[str]:
    others = [name for name in these if name not in those]
    if others:
        yield f"the pooling {', '.join(others)}"


def _layers_of_file(
    spec: StoreSpec, made: Mapping[str, object], stored: tuple[str, ...], run_path: Path | None
) -> tuple[str, ...]:
    """Build the network of a file or a run, whose name alone doesn't tell what it is, and compare its weights."""
    frozen = build_frozen(
        spec.backbone,
        layers=spec.layers,
        weights=str(run_path) if run_path is not None else spec.weights,
        image_size=spec.image_size,
        preprocessing=spec.preprocessing,
    )
    # Of other layers, other weights take part; extraction compares those of the store's own.
    if frozen.layers == stored and frozen.weights_sha256 != made.get("weights_sha256"):
        raise FeatxError(f"other weights that are called {made.get('weights')!r} too")
    return frozen.layers


def _other_rows(base: Base, manifest: Manifest) -> Iterator[str]:
    """Say if the images, or what is known of them, are others; files are not read."""
    table = manifest.table[~manifest.table["path"].isin(set(base.rejected["path"]))]
    if not manifest.has_splits:
        splits = table["path"].map(base.images.set_index("path")["split"]).fillna("")
        table = table.assign(split=splits)
    stored = base.images
    new = len(set(table["path"]) - set(stored["path"]))
    if new:
        yield f"{new:,} images"
    elif list(table["path"]) != list(stored["path"]):
        yield WITHOUT_PIXELS[0]
    elif not is_same_table(table.assign(sha256=stored["sha256"].to_numpy()), stored):
        yield WITHOUT_PIXELS[1]
