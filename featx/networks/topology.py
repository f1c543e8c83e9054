"""Read the layers of a Keras model and their connections from its configuration."""

from collections.abc import Iterator
from dataclasses import dataclass

from featx.errors import FeatxError
from featx.networks.backend import load_keras


class UnsupportedError(FeatxError):
    """A layer has no counterpart here; the reference engine runs it."""


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes
    ----------
    layer : keras.Layer or keras.Operation
    sources : tuple of str
        Names of the layers whose outputs it takes, in order.
    """

    layer: object
    sources: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The layer's class by name, or `ops.<name>` of what isn't a layer: a sum that was written with a plus."""
        name = type(self.layer).__name__
        return name if isinstance(self.layer, load_keras().Layer) else f"ops.{name}"


@dataclass(frozen=True)
class Topology:
    """The calls that a model is made of.

    Attributes
    ----------
    source : str
        Name of the layer that is the model's input.
    calls : tuple of Call
        In the order in which they run, the input left out.
    output : str
        Name of the layer whose output is the model's, if it has just one; else ``.
    """

    source: str
    calls: tuple[Call, ...]
    output: str


def read_topology(model: object) -> Topology:
    """Read which layers of a functional or sequential model feed each other.

    A layer's own `input` and `output` don't say it: those of a model inside a model are what it was built with, not
    what it takes here.

    Raises
    ------
    UnsupportedError
        If the model has several inputs, or a layer that is called more than once or takes more than tensors.

    Examples
    --------
    >>> pixels = load_keras().Input((8, 8, 3), name="pixels")
    >>> relu = load_keras().layers.ReLU(name="relu")
    >>> topology = read_topology(load_keras().Model(pixels, relu(pixels)))
    >>> topology.source, [call.sources for call in topology.calls], topology.output
    ('pixels', [('pixels',)], 'relu')
    """
    if type(model).__name__ == "Sequential":
        names = ["", *(layer.name for layer in model.layers)]
        calls = (Call(layer, (source,)) for layer, source in zip(model.layers, names, strict=False))
        return Topology(names[0], tuple(calls), names[-1])
    try:
        config = model.get_config()
        inputs, outputs = (list(_endpoints(config[key])) for key in ("input_layers", "output_layers"))
    except (NotImplementedError, KeyError) as error:
        raise UnsupportedError(f"{model.name} doesn't say which of its layers feed each other ({error})") from error
    if len(inputs) != 1:
        raise UnsupportedError(f"{model.name} has {len(inputs)} inputs; expected one")
    layers = {layer.name: layer for layer in model.operations}
    calls = (_read_call(entry, layers[entry["name"]]) for entry in config["layers"] if entry["name"] != inputs[0])
    return Topology(inputs[0], tuple(calls), outputs[0] if len(outputs) == 1 else "")


def activation_of(layer: object) -> str:
    """Return the name of the activation that a layer ends in: one of Keras's own.

    Raises
    ------
    UnsupportedError
        If it is another function.
    """
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    if getattr(load_keras().activations, name, None) is not layer.activation:
        raise UnsupportedError(f"the layer {layer.name} ends in {name}, which isn't one of Keras's own activations")
    return name


def _read_call(entry: dict, layer: object) -> Call:
    name, nodes = entry["name"], entry["inbound_nodes"]
    if len(nodes) != 1:
        raise UnsupportedError(f"the layer {name} is called {len(nodes)} times; expected once")
    options = {key: value for key, value in nodes[0]["kwargs"].items() if value is not None and value is not False}
    if options:
        raise UnsupportedError(f"the layer {name} is called with {', '.join(options)}; expected tensors only")
    return Call(layer, tuple(_histories(nodes[0]["args"], name)))


def _histories(argument: object, name: str) -> Iterator[str]:
    """Go through what a layer takes, as Keras writes it: lists of lists of tensors, each with where it comes from."""
    if isinstance(argument, list | tuple):
        for item in argument:
            yield from _histories(item, name)
    elif isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__":
        source, _, position = argument["config"]["keras_history"]
        if position:
            raise UnsupportedError(f"the layer {name} takes output {position} of {source}; expected the only one")
        yield source
    else:
        raise UnsupportedError(f"the layer {name} takes {argument!r}; expected tensors only")


def _endpoints(entries: object) -> Iterator[str]:
    """Go through the inputs or outputs of a model, as Keras writes them: [name, call, position], in any nesting."""
    if isinstance(entries, dict):
        entries = list(entries.values())
    if entries and isinstance(entries[0], str):
        yield entries[0]
    else:
        for entry in entries:
            yield from _endpoints(entry)
