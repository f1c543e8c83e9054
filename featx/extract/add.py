"""Plan an addition to an existing store: check that it is possible, and find missing layers, poolings and images."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from featx.errors import ImageError, StoreError
from featx.extract.options import ExtractOptions
from featx.extract.plan import ExistingStore, LazyNetwork, Plan, announce
from featx.images import Manifest, digest_of
from featx.inference import AUTO, PooledNetwork, build_frozen
from featx.networks import FrozenBackbone, choose_poolings, layer_of, load_keras, plan_features
from featx.store import Settings, Store, as_text

_OTHERWISE = "Use another name, or `overwrite` to make it again"


# Images that are compared to distinguish a folder that was moved from another folder.
_N_COMPARED = 16


def read_existing(path: Path) -> ExistingStore:
    """Read an existing store without its features; raise an error if it can't be added to."""
    try:
        with Store(path) as store:
            attributes = store.attributes
            return ExistingStore(
                path=path,
                run_id=str(attributes["run_id"]),
                settings=Settings.from_record(attributes),
                attributes=attributes,
                images=store.images,
                rejected=store.rejected,
            )
    except StoreError as error:
        raise StoreError(
            f"{error}. So it can't be added to: use another name, or `overwrite` to replace this file"
        ) from error
    except KeyError as error:
        raise StoreError(f"{path}: exists, and has no attribute {error}. {_OTHERWISE}") from error


def plan_addition(
    request: ExtractOptions, base: ExistingStore, manifest: Manifest, echo: Callable[[str], None]
) -> Plan:
    """Plan the missing layers and poolings of a store, and all of them for new images, if the settings are the same."""
    stored = base.settings
    request = replace(
        request,
        engine=stored.engine if request.engine == "auto" else request.engine,
        batch_size=int(base.attributes["batch_size"]) if request.batch_size == AUTO else request.batch_size,
    )
    _check_lost_images(base, manifest)
    _check_settings(base, request)
    check_same_images(base, manifest)
    # What layer_of gives are layers' names, each with all of its poolings.
    stored_layers = ",".join(dict.fromkeys(map(layer_of, stored.layers)))
    poolings = choose_poolings(f"{stored.pooling},{request.pool}")
    frozen = _build(request, f"{request.layers},{stored_layers}", echo)
    is_same = frozen.layers == tuple(stored_layers.split(","))
    _check_weights(base, request, frozen if is_same else _build(request, stored_layers, echo))
    features = plan_features(frozen.spatial, poolings)
    n_channels = {name: int(frozen.model.output[layer].shape[-1]) for name, (layer, _) in features.items()}
    settings = replace(
        stored,
        # The added layers may be missing in the weights of the store's own name.
        weights=stored.weights if is_same else frozen.weights_name,
        weights_sha256=frozen.weights_sha256,
        layers=tuple(n_channels),
        pooling=",".join(poolings),
    )
    missing = {name: channels for name, channels in n_channels.items() if name not in stored.layers}
    build = partial(_build_pooled, request, echo)
    used = {features[name][1] for name in missing}
    return Plan(
        request=request,
        settings=settings,
        n_channels=n_channels,
        network=LazyNetwork(
            partial(build, frozen.layers, poolings),
            n_channels,
            batch_size=request.batch_size,
        ),
        base=base,
        further=LazyNetwork(
            # It ends at the deepest missing layer.
            partial(build, dict.fromkeys(map(layer_of, missing)), [name for name in poolings if name in used]),
            missing,
            batch_size=request.batch_size,
        )
        if missing
        else None,
    )


def keep_splits(base: ExistingStore, manifest: Manifest, echo: Callable[[str], None]) -> Manifest:
    """Return the manifest with the store's splits, if the source has none at all."""
    stored = base.images.set_index("path")["split"]
    if manifest.has_splits or not (stored != "").any():
        return manifest
    kept = manifest.table["path"].map(stored).fillna("")
    n_without = int(((kept == "") & ~manifest.table["path"].isin(set(base.rejected["path"]))).sum())
    without = f"; {n_without:,} images have none" if n_without else ""
    echo(f"{base.path}: its splits are kept, since the source has none{without}")
    return replace(manifest, table=manifest.table.assign(split=kept))


def describe_changes(base: ExistingStore, plan: Plan, table: pd.DataFrame) -> list[str]:
    """Name the differences that an addition makes, most important first; `table` is the new one, with sha256."""
    now, before = table.set_index("path"), base.images.set_index("path")
    common = now.index.intersection(before.index)
    columns = {name for name in now if name in before}
    n_changed = {name: _count_differing(now.loc[common, name], before.loc[common, name]) for name in columns}
    counts = {
        "new layers or poolings": len(plan.n_channels) - len(base.settings.layers),
        "new images": len(now) - len(common),
        "images whose file changed": n_changed.pop("sha256"),
        "labels": n_changed.pop("label"),
        "splits": n_changed.pop("split"),
        **{f"values of {name}": n for name, n in sorted(n_changed.items())},
        "new columns": len(set(now) - columns),
        "columns fewer": len(set(before) - columns),
    }
    return [f"{count:,} {what}" for what, count in counts.items() if count]


def is_same_table(table: pd.DataFrame, stored: pd.DataFrame) -> bool:
    """Return whether a table equals a stored one; the order of its columns doesn't matter."""
    if len(table) != len(stored) or set(table) != set(stored):
        return False
    return not any(_count_differing(table[name], stored[name]) for name in table)


def _count_differing(now: pd.Series, before: pd.Series) -> int:
    """Count the cells that differ, two of no number being the same; a number and its text are the same, too."""
    are_numbers = [column.to_numpy().dtype.kind in "biuf" for column in (now, before)]
    if not all(are_numbers):
        now, before = (list(map(as_text, column)) for column in (now, before))
        return sum(one != other for one, other in zip(now, before, strict=True))
    now, before = now.to_numpy(), before.to_numpy()
    return int(((now != before) & ~((now != now) & (before != before))).sum())


def _build(request: ExtractOptions, layers: str, echo: Callable[[str], None]) -> FrozenBackbone:
    return build_frozen(
        request.backbone,
        layers=layers,
        weights=request.weights,
        image_size=request.image_size,
        preprocessing=request.preprocessing,
        echo=echo,
    )


def _build_pooled(
    request: ExtractOptions, echo: Callable[[str], None], layers: Iterable[str], poolings: Iterable[str]
) -> PooledNetwork:
    # A fully connected layer has no pooling; where it is alone, any will do.
    network = request.build(echo, layers=",".join(layers), pool=",".join(poolings) or "avg")
    announce(request, network, echo)
    return network


def find_lost_images(base: ExistingStore, manifest: Manifest) -> pd.Series:
    """Return the paths of a store's images that are not among a manifest's."""
    return base.images["path"][~base.images["path"].isin(set(manifest.table["path"]))]


def _check_lost_images(base: ExistingStore, manifest: Manifest) -> None:
    lost = find_lost_images(base, manifest)
    if len(lost):
        raise StoreError(
            f"{base.path}: exists, and {len(lost):,} of its {len(base.images):,} images are missing in the source; "
            f"the first is {lost.iloc[0]!r}. Their features would be lost: list them too, use another name, or "
            "`overwrite` to make it again"
        )


def check_same_images(base: ExistingStore, manifest: Manifest) -> None:
    """Raise an error for another folder whose files have the same names; a folder that was moved is fine."""
    if str(manifest.root) == base.attributes.get("root") or not len(base.images):
        return
    step = -(-len(base.images) // _N_COMPARED)
    some = base.images.iloc[::step]
    if not any(_digest(manifest.root / row.path) == row.sha256 for row in some.itertuples()):
        raise StoreError(
            f"{base.path}: exists, and was made of images in {base.attributes.get('root')!r}; those in "
            f"{str(manifest.root)!r} have the same names, but differ (of {len(some)} compared, none is the same). "
            f"{_OTHERWISE}"
        )


def _digest(path: Path) -> str | None:
    try:
        return digest_of(path)
    except ImageError:
        return None


def _check_settings(base: ExistingStore, request: ExtractOptions) -> None:
    """Compare all but layers, poolings and weights; no network is built for it."""
    names = ("backbone", "image_size", "resize", "interpolation", "jpeg", "icc", "views", "store_dtype", "engine")
    requested = replace(
        base.settings,
        **{name: getattr(request, name) for name in (*names, "precision")},
        preprocessing=request.preprocessing or base.settings.preprocessing,
        keras_backend=load_keras().backend.backend(),
    )
    _check_same(base, requested.changes_from(base.attributes))


def _check_weights(base: ExistingStore, request: ExtractOptions, frozen: FrozenBackbone) -> None:
    """Compare the weights of the store's own layers, and what they expect."""
    requested = replace(base.settings, preprocessing=frozen.preprocessing)
    different = requested.changes_from(base.attributes)
    if frozen.weights_sha256 != base.settings.weights_sha256:
        different.append(
            f"weights {base.settings.weights!r} (SHA-256 {base.settings.weights_sha256[:16]}...), now "
            f"{request.weights!r} ({frozen.weights_sha256[:16]}...)"
        )
    _check_same(base, different)


def _check_same(base: ExistingStore, different: list[str]) -> None:
    if different:
        raise StoreError(
            f"{base.path}: exists, and was made with {'; '.join(different)}. Use the same settings to add layers, "
            "poolings or images to it, another name, or `overwrite` to make it again"
        )
