"""Keep the record of an experiment: the stages that were run, written down after each."""

from collections.abc import Mapping, Sequence

import featx
from featx.errors import FeatxError
from featx.experiment.existing import Existing, differences
from featx.experiment.file import experiment_record
from featx.experiment.schema import MAX_BYTES, OF_RUN, Experiment
from featx.experiment.stages import Stage
from featx.images import Manifest
from featx.system import now, parse_yaml, to_yaml, whole_file

_HEAD = "# featx run"


_SECTIONS = ("stores", "finetunes", "fits", "choices")


# Options that a result does not depend on and is not compared by: the record keeps those that it was made with.
_NOT_COMPARED = {
    "stores": ("engine", "batch_size", "max_rejected"),
    "finetunes": ("weights", "root", "engine", "cache_limit", "keep_cache"),
}


Record = dict[str, object]


Key = tuple[str, str]
"""A section and a name in it."""


class RecordKeeper:
    """`<output>/experiment.yaml`: the options that each stage was done with, written once it is done.

    Entries of stages that a run leaves alone stay, unless what they were made of is another now.

    Parameters
    ----------
    experiment : Experiment
    manifest : Manifest or None
        The images; None where no store is asked for: the record's source and split stay.

    Raises
    ------
    FeatxError
        If the record that exists can't be read, or the experiment's would be too large to be read back.
    """

    def __init__(self, experiment: Experiment, manifest: Manifest | None) -> None:
        self._experiment = experiment
        self._manifest = manifest
        self._wanted = experiment_record(experiment)
        if len(to_yaml(self._wanted).encode("utf-8")) > MAX_BYTES - 1024:
            raise FeatxError(
                f"{experiment.path}: with every default written out it is larger than {MAX_BYTES // 1024:,} KiB, and "
                "its record couldn't be read back: divide it into several"
            )
        self._text = read_record(experiment)
        self._record = self._wanted | {section: {} for section in _SECTIONS} | {"report": False}
        kept = _parse(experiment, self._text) or {}
        self._record |= {key: value for key, value in kept.items() if key in self._record}
        for section in _SECTIONS:
            entries = self._record[section]
            self._record[section] = dict(entries) if isinstance(entries, Mapping) else {}
        self._settled: set[Key] = set()

    def note(self, stages: Sequence[Stage], existing: Mapping[str, Existing], *, is_done: bool) -> None:
        """Write down stages that are done, or that existed already.

        Parameters
        ----------
        stages : sequence of Stage
        existing : mapping of str to Existing
            Existing results before this run.
        is_done : bool
        """
        for stage in stages:
            if stage.section == "stores" and self._manifest is not None:
                self._take_source(existing[stage.key].status, is_done=is_done)
            self._record |= {"title": self._wanted["title"], "output": self._wanted["output"]}
            if stage.section == "report":
                self._record["report"] = self._wanted["report"]
            else:
                self._take_entry((stage.section, stage.name), is_done=is_done)
        if stages:
            self._write()

    def _take_source(self, status: str, *, is_done: bool) -> None:
        now = {key: self._wanted[key] for key in ("source", "split")}
        if now["split"] is None and status in ("exists", "incomplete"):
            # The splits of a store that exists are kept.
            now["split"] = self._record["split"]
        before = {key: self._record[key] for key in now}
        self._record |= now
        if is_done and before != now:
            # All else was run on other images, or on other splits of them.
            self._drop(self._keys())

    def _take_entry(self, key: Key, *, is_done: bool) -> None:
        section, name = key
        entry = dict(self._wanted[section][name])
        before = self._record[section].get(name)
        if not is_done and isinstance(before, Mapping):
            entry |= {option: before[option] for option in _NOT_COMPARED.get(section, ()) if option in before}
        if section != "stores":
            # A run of that name lies in the same folder, whatever section it is of.
            same = {other for other in self._keys() if other[0] != "stores" and other[1].lower() == name.lower()}
            self._drop(same - {key})
        self._settled.add(key)
        if is_done:
            self._drop(self._made_of({key}))
        self._record[section][name] = entry

    def _keys(self) -> set[Key]:
        return {(section, name) for section in _SECTIONS for name in self._record[section]}

    def _made_of(self, keys: set[Key]) -> set[Key]:
        return {key for key in self._keys() if keys & set(_needs(key[0], self._record[key[0]][key[1]]))}

    def _drop(self, keys: set[Key]) -> None:
        """Take entries out, and all that was made of them, but what is settled."""
        while keys := keys - self._settled:
            made_of = self._made_of(keys)
            for section, name in keys:
                self._record[section].pop(name, None)
            keys = made_of - keys

    def _write(self) -> None:
        record = dict(self._record)
        for section in _SECTIONS:
            # In the order of the experiment's file, and others after these.
            entries = record[section]
            names = dict.fromkeys([*(name for name in self._wanted[section] if name in entries), *entries])
            record[section] = {name: entries[name] for name in names}
        text = to_yaml(record)
        if text == self._text:
            return
        head = f"{_HEAD}, featx {featx.__version__}, {now()}: everything as it was run; featx run takes this file too\n"
        with whole_file(self._experiment.record_path) as file:
            file.write((head + text).encode("utf-8"))
        self._text = text


def _needs(section: str, entry: object) -> list[tuple[str, object]]:
    """Return the keys of the entries that an entry of a record is made of."""
    if not isinstance(entry, Mapping):
        return []
    if section == "stores":
        weights = str(entry.get("weights"))
        return [("finetunes", weights.removeprefix(OF_RUN))] if weights.startswith(OF_RUN) else []
    if section == "choices":
        among = entry.get("among")
        return [("fits", name) for name in among] if isinstance(among, list) else []
    return [("stores", entry.get("store"))]


def read_record(experiment: Experiment) -> str | None:
    """Return the record that an earlier run has left, without its first line; None where there is none.

    Raises
    ------
    FeatxError
        If it can't be read, or is another file.
    """
    path = experiment.record_path
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FeatxError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not text.startswith(_HEAD):
        raise FeatxError(
            f"{path}: stands where featx run keeps its record, and is none (its first line would say so): name another "
            "folder as output"
        )
    return text.partition("\n")[2]


def check_kept_source(experiment: Experiment) -> str:
    """Check that source and split are the record's where no store is asked for, since nothing would change.

    Returns
    -------
    str
        A note if the source has moved; "" if it has not, or there is no record.

    Raises
    ------
    FeatxError
    """
    kept = _parse(experiment, read_record(experiment))
    if kept is None:
        return ""
    wanted = experiment_record(experiment)
    made, now = _flatten_source(kept), _flatten_source(wanted)
    moved = differences(made, {name: now.pop(name) for name in ("source.path", "source.root")})
    if different := differences(made, now):
        raise FeatxError(
            f"{experiment.path}: the stores were made with {'; '.join(different)}. No store is asked for, so nothing "
            "would change: add stores to `only`, or leave it as it was"
        )
    return "source: not where the record says, and not read, since no store is asked for" if moved else ""


def _flatten_source(record: Record) -> Record:
    sections = {name: record.get(name) for name in ("source", "split")}
    return {
        f"{section}.{name}": value
        for section, part in sections.items()
        if isinstance(part, Mapping)
        for name, value in part.items()
    }


def _parse(experiment: Experiment, text: str | None) -> Record | None:
    if text is None:
        return None
    try:
        # An empty first line in place of the head, so that lines are counted as in the file.
        record = parse_yaml(f"\n{text}", source=str(experiment.record_path))
    except FeatxError as error:
        raise FeatxError(f"{error}. Delete this file, and it is written again; or name another output") from error
    return record if isinstance(record, dict) else None
