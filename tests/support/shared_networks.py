"""Networks that are built and compiled once for all tests: where tests use them, building would take most of the time.

Only frozen networks of random weights, or of a file of weights, are shared: nothing changes them. The real functions
build each of them, once. Networks that are trained, and those of fine-tuned runs, are built every time.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

# Beyond this many, the network that was used longest ago is built again when a test needs it.
MOST = 12


class Recent(dict):
    """The results that were used last."""

    def make(self, key: Hashable, build: Callable[[], object]) -> object:
        self[key] = self.pop(key) if key in self else build()
        while len(self) > MOST:
            del self[next(iter(self))]
        return self[key]


@contextmanager
def shared_networks() -> Iterator[None]:
    """Share networks among all that `featx.inference` builds meanwhile."""
    from featx.inference import network
    from featx.inference.engines import keras

    frozen, engines = Recent(), Recent()
    build_backbone = network.build_backbone

    def build_once(backbone="vgg16", *, weights="imagenet", echo=lambda line: None, **options):
        content = contents_of(weights)
        if content is None:
            return build_backbone(backbone, weights=weights, echo=echo, **options)

        def build():
            lines = []
            return build_backbone(backbone, weights=weights, echo=lines.append, **options), lines

        built, lines = frozen.make((backbone, weights, content, repr(sorted(options.items()))), build)
        for line in lines:
            echo(line)
        return built

    def sharing(make):
        def make_once(backbone, poolings, **options):
            # A batch size that was found by trying may change.
            if options.get("batch_size") == "auto" or all(backbone is not built for built, _ in frozen.values()):
                return make(backbone, poolings, **options)
            # The key holds the model, so that no other one gets its id.
            key = (make, Same(backbone.model), replace(backbone, model=None), poolings, *sorted(options.items()))
            return engines.make(key, lambda: make(backbone, poolings, **options))

        return make_once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build_backbone", build_once)
        patch.setattr(keras, "KerasEngine", sharing(keras.KerasEngine))
        if importlib.util.find_spec("ncnn"):
            from featx.inference.engines.ncnn import engine

            patch.setattr(engine, "NcnnEngine", sharing(engine.NcnnEngine))
        yield


class Same:
    """An object that equals itself alone."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def contents_of(weights: str) -> str | None:
    """Return what the weights are beyond their name, or None if they are not shared."""
    if weights.partition(":")[0] == "random":
        return ""
    path = Path(weights)
    return hashlib.sha256(path.read_bytes()).hexdigest() if weights and path.is_file() else None
