"""Summarize a store on one screen."""

from featx.errors import one_line
from featx.images import sort_labels
from featx.store.history import read_history
from featx.store.reader import Store

_LINES_OF_REJECTED = 10


_RUNS = 3


_SHOWN = (
    *("backbone", "weights", "weights_sha256", "image_size", "resize", "interpolation", "preprocessing", "root"),
    *("pooling", "precision", "created", "featx_version", "keras_version", "keras_backend"),
    *("engine", "engine_version", "views", "store_dtype", "jpeg", "icc"),
)


def summarize_store(store: Store) -> dict[str, object]:
    """Return the facts about a store that a person wants to know.

    Returns
    -------
    dict
        path, bytes, attributes, n_images, n_features, layers (name to n_channels), splits (name to label counts),
        columns, rejected (path and reason each), images_per_second and history (for each run that made or changed the
        store, oldest first: command, machine, device, versions, started, ended, n_computed and more). JSON can hold
        all of it.
    """
    images = store.images
    splits: dict[str, dict[str, int]] = {}
    for split, labels in images.groupby("split", sort=False)["label"]:
        counts = labels.value_counts()
        splits[split] = {label: int(counts[label]) for label in sort_labels(counts.index)}
    return {
        "path": str(store.path),
        "bytes": store.path.stat().st_size,
        "n_images": len(store),
        "n_features": sum(store.n_channels.values()),
        "layers": store.n_channels,
        "splits": splits,
        "columns": list(images.columns),
        "rejected": store.rejected.to_dict("records"),
        "images_per_second": store.images_per_second,
        "history": read_history(store.attributes),
        "attributes": {name: value for name, value in store.attributes.items() if name != "history"},
    }


def format_summary(description: dict) -> str:
    """Format a summary for a screen; nothing in it can control a terminal."""
    attributes = {name: description["attributes"].get(name, "?") for name in _SHOWN}
    engine = f"{attributes['engine']} {attributes['engine_version']}".rstrip()
    speed = description["images_per_second"]
    engine += "" if speed is None else f", {speed:,.1f} images/s"
    lines = [
        f"{description['path']}: {description['n_images']:,} images x {description['n_features']:,} features, "
        f"{description['bytes'] / 1e6:.1f} MB",
        f"network    {attributes['backbone']}, weights {attributes['weights']} "
        f"({str(attributes['weights_sha256'])[:12]})",
        f"images     {attributes['image_size']} pixels, {attributes['resize']}, {attributes['interpolation']}, "
        f"{attributes['preprocessing']}, JPEGs: {attributes['jpeg']}, ICC profiles: {attributes['icc']}; from "
        f"{attributes['root']}",
        f"features   {attributes['pooling']} pooling, views: {attributes['views']}; computed in "
        f"{attributes['precision']}, stored as {attributes['store_dtype']}",
        f"made       {attributes['created']} by featx {attributes['featx_version']}, Keras "
        f"{attributes['keras_version']} on {attributes['keras_backend']}; engine {engine}",
        *_describe_runs(description["history"]),
        *_wrap("layers     ", [f"{layer} {channels}" for layer, channels in description["layers"].items()]),
        *_wrap("columns    ", description["columns"]),
    ]
    for split, counts in description["splits"].items():
        labels = [f"{label or '(no label)'} {count:,}" for label, count in counts.items()]
        lines += _wrap(f"{split or '(no split)':<11}{sum(counts.values()):,} images: ", _shorten(labels))
    rejected = description["rejected"]
    lines.append(f"rejected   {len(rejected):,}")
    lines += [f"           {entry['path']}: {entry['reason']}" for entry in rejected[:_LINES_OF_REJECTED]]
    if len(rejected) > _LINES_OF_REJECTED:
        lines.append(f"           ... and {len(rejected) - _LINES_OF_REJECTED:,} more in /rejected: --json lists them")
    return "\n".join(map(one_line, lines))


def _describe_runs(history: list[dict]) -> list[str]:
    """Return three lines per run, the last one first."""
    lines = []
    for run in history[: -_RUNS - 1 : -1]:
        speed = run.get("images_per_second")
        at = f" at {speed:,.1f} images/s" if isinstance(speed, float) else ""
        lines += [
            f"run        {run.get('started') or '?'} to {run.get('ended', '?')}: {run.get('n_computed', '?')} images "
            f"computed{at}, {run.get('n_resumed', '?')} kept from before, {run.get('n_rejected', '?')} rejected",
            f"           {run.get('command', '?')}",
            f"           on {run.get('machine', '?')}; {run.get('device') or 'nothing computed'}",
        ]
    if len(history) > _RUNS:
        lines.append(f"           ... and {len(history) - _RUNS:,} runs before: --json lists them")
    return lines


def _shorten(items: list[str], most: int = 20) -> list[str]:
    return items if len(items) <= most else [*items[:most], f"... {len(items) - most} more classes"]


def _wrap(first: str, items: list[str], width: int = 100) -> list[str]:
    """Return lines of items with commas between them; further lines are indented."""
    import textwrap

    return textwrap.wrap(first + ", ".join(items), width + 11, subsequent_indent=" " * 11)
