"""The record of an experiment: what was run, brought up to date stage by stage, so that it never says more."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import featx
from featx.errors import FeatxError
from featx.experiment.existing_stores import Found
from featx.experiment.file import experiment_record
from featx.experiment.schema import MAX_BYTES, OF_RUN, Experiment
from featx.experiment.stages import Stage
from featx.images import Manifest
from featx.system import now, parse_yaml, show_value, to_yaml, whole_file

_HEAD = "# featx run"


_SECTIONS = ("stores", "finetunes", "fits", "choices")


_OF_RUNS = ("finetunes", "fits", "choices")


# What a result doesn't tell, and is not compared with: the record goes on saying what it was made with.
_UNTOLD = {
    "stores": ("engine", "batch_size", "max_rejected"),
    "finetunes": ("weights", "root", "engine", "cache_limit", "keep_cache"),
}


# What may be elsewhere and be the same.
_PLACES = ("path", "root")


Record = dict[str, object]


class RecordKeeper:
    """`<output>/experiment.yaml`: of each stage what it was done with, written once it is done.

    Entries of stages that a run leaves alone stay, unless what they were made of is another now.

    Parameters
    ----------
    experiment : Experiment
    manifest : Manifest or None
        The images; None where no store is asked for, and the record's source and split stay.

    Raises
    ------
    FeatxError
        If the record that is there can't be read, or the experiment's would be too large to be read back.
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
        kept = _parse(experiment, self._text)
        self._record = self._wanted | {section: {} for section in _SECTIONS} | {"report": False}
        self._record |= {key: kept[key] for key in self._record if kept is not None and key in kept}
        for section in _SECTIONS:
            entries = self._record[section]
            self._record[section] = dict(entries) if isinstance(entries, Mapping) else {}
        self._settled: set[tuple[str, str]] = set()

    def note(self, stages: Sequence[Stage], found: Mapping[str, Found], *, is_done: bool) -> None:
        """Write down stages that are done, or that were there already.

        Parameters
        ----------
        stages : sequence of Stage
        found : mapping of str to Found
            What was there of them before.
        is_done : bool
        """
        for stage in stages:
            self._take_source(stage, found[stage.key].status, is_done=is_done)
            self._take_entry(stage, is_done=is_done)
        if stages:
            self._write()

    def _take_source(self, stage: Stage, status: str, *, is_done: bool) -> None:
        if stage.section != "stores" or self._manifest is None:
            return
        now = {key: self._wanted[key] for key in ("source", "split")}
        if now["split"] is None and status in ("there", "incomplete"):
            # The splits of a store that is there are kept.
            now["split"] = self._record["split"]
        before = {key: self._record[key] for key in now}
        self._record |= now
        if is_done and before != now:
            # What else was run was run on other images, or other splits of them.
            self._drop({(section, name) for section in _SECTIONS for name in self._record[section]} - self._settled)

    def _take_entry(self, stage: Stage, *, is_done: bool) -> None:
        self._record |= {"title": self._wanted["title"], "output": self._wanted["output"]}
        if stage.section == "report":
            self._record["report"] = self._wanted["report"]
            return
        key = (stage.section, stage.name)
        entry = dict(self._wanted[stage.section][stage.name])
        before = self._record[stage.section].get(stage.name)
        if not is_done and isinstance(before, Mapping):
            entry |= {name: before[name] for name in _UNTOLD.get(stage.section, ()) if name in before}
        if stage.section in _OF_RUNS:
            # A run of that name lies in the same folder, whatever it is of.
            others = {(section, name) for section in _OF_RUNS for name in self._record[section]}
            self._drop({other for other in others if other[1].lower() == stage.name.lower()} - {key})
        self._settled.add(key)
        if is_done:
            self._drop(set(self._dependants(key)) - self._settled)
        self._record[stage.section][stage.name] = entry

    def _dependants(self, key: tuple[str, str]) -> Iterator[tuple[str, str]]:
        for section in _SECTIONS:
            for name, entry in self._record[section].items():
                if key in _needs(section, entry):
                    yield section, name

    def _drop(self, keys: set[tuple[str, str]]) -> None:
        """Take entries out, and all that was made of them."""
        for section, name in keys:
            self._record[section].pop(name, None)
        for key in keys:
            self._drop(set(self._dependants(key)) - self._settled)

    def _write(self) -> None:
        record = to_yaml(self._in_order())
        if record == self._text:
            return
        head = f"{_HEAD}, featx {featx.__version__}, {now()}: everything as it was run; featx run takes this file too\n"
        with whole_file(self._experiment.record_path) as file:
            file.write((head + record).encode("utf-8"))
        self._text = record

    def _in_order(self) -> Record:
        """Return the record with the entries in the order of the experiment's file, and others after these."""
        record = copy.copy(self._record)
        for section in _SECTIONS:
            entries = record[section]
            names = dict.fromkeys([*(name for name in self._wanted[section] if name in entries), *entries])
            record[section] = {name: entries[name] for name in names}
        return record


def _needs(section: str, entry: object) -> list[tuple[str, object]]:
    """Return the entries that an entry of a record takes up."""
    if not isinstance(entry, Mapping):
        return []
    if section == "stores":
        weights = entry.get("weights")
        is_of_run = isinstance(weights, str) and weights.startswith(OF_RUN)
        return [("finetunes", weights.removeprefix(OF_RUN))] if is_of_run else []
    if section == "choices":
        among = entry.get("among")
        return [("fits", name) for name in among] if isinstance(among, list) else []
    return [("stores", entry.get("store"))]


def read_record(experiment: Experiment) -> str | None:
    """Return the record that an earlier run has left, without its first line; None where there is none.

    Raises
    ------
    FeatxError
        If it can't be read, or is a file of somebody else's.
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
    """Refuse another source or split than the record's where no store is asked for: nothing would come of it.

    Returns
    -------
    str
        A note where the source's place is another; "" where it is the same, or there is no record.

    Raises
    ------
    FeatxError
    """
    kept = _parse(experiment, read_record(experiment))
    if kept is None:
        return ""
    wanted = experiment_record(experiment)
    split, source = kept.get("split"), kept.get("source")
    problems = []
    if wanted["split"] is not None and not isinstance(split, Mapping):
        problems.append("split: the stores were made without: their splits are those of the source")
    elif wanted["split"] is not None:
        changed = [name for name, value in wanted["split"].items() if value != split.get(name)]
        problems += [_name_change(f"split.{name}", split.get(name), wanted["split"][name]) for name in changed]
    recorded = source if isinstance(source, Mapping) else wanted["source"]
    others = [name for name, value in wanted["source"].items() if value != recorded.get(name)]
    for name in others:
        if name not in _PLACES:
            problems.append(_name_change(f"source.{name}", recorded.get(name), wanted["source"][name]))
    if problems:
        raise FeatxError(
            f"{experiment.path}: {'; '.join(problems)}. No store is asked for, so that nothing would change: add "
            "stores to --only, or leave it as it was"
        )
    return "source: elsewhere than the record says, and not looked at, since no store is asked for" if others else ""


def _name_change(key: str, before: object, now: object) -> str:
    return f"{key}: the stores were made with {show_value(before)}, now {show_value(now)}"


def _parse(experiment: Experiment, text: str | None) -> Record | None:
    if text is None:
        return None
    try:
        # In the place of its first line an empty one, so that lines are counted as in the file.
        record = parse_yaml(f"\n{text}", source=str(experiment.record_path))
    except FeatxError as error:
        raise FeatxError(f"{error}. Delete this file, and it is written anew; or name another output") from error
    return record if isinstance(record, dict) else None
