"""A program that kills featx at random moments, resumes it, and prints the results as JSON.

Usage: python kill_and_resume.py HOW IMAGES STORE N. HOW is "addition" (a store of some images, to which the others are
added) or "shards" (three shards, then their merge). Whenever a store is complete, it is compared and deleted.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from stub_network import DELAY, install

import featx
from featx.system import Shard

OPTIONS = {"weights": "random", "layers": "all", "image_size": 32, "batch_size": 4}


def start(step):
    """Run a step in a process of its own, and return at once."""
    pid = os.fork()
    if not pid:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - a fork must never continue as its parent
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return pid


def finish(pid):
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def content_of(store_path):
    with featx.open(store_path) as store:
        return store.matrix().tobytes(), store.images.to_csv(), store.rejected.to_csv()


def steps_of(how, images, store_path):
    whole = featx.read_source(images)
    if how == "addition":
        part = replace(whole, table=whole.table.iloc[::2].reset_index(drop=True))
        return [partial(featx.extract_features, manifest, store_path, **OPTIONS) for manifest in (part, whole)]
    shards = [Shard(number, 3) for number in (1, 2, 3)]
    extract = [partial(featx.extract_features, whole, store_path, shard=shard, **OPTIONS) for shard in shards]
    return [*extract, partial(featx.merge_shards, store_path)]


def main(how, images, store_path, n_wanted):
    undisturbed_path = store_path.with_name("undisturbed.h5")
    started_at = time.monotonic()
    steps = steps_of(how, images, undisturbed_path)
    codes = [finish(start(step)) for step in steps]
    seconds = (time.monotonic() - started_at) / len(steps)
    expected, steps = content_of(undisturbed_path), steps_of(how, images, store_path)

    chance = random.Random(0)  # noqa: S311
    n_killed = n_whole = n_different = number = 0
    is_started = False
    # The last store is finished and compared, too.
    while n_killed < n_wanted or number or is_started or not n_whole:
        pid = start(steps[number])
        if n_killed < n_wanted:
            time.sleep(chance.random() * seconds)
            os.kill(pid, signal.SIGKILL)
        code = finish(pid)
        n_killed += code == -signal.SIGKILL
        is_started = code != 0
        if code not in (0, -signal.SIGKILL):
            codes.append(code)
            break
        number += code == 0
        if number == len(steps):
            number, n_whole = 0, n_whole + 1
            n_different += content_of(store_path) != expected
            store_path.unlink()
    result = {"codes": codes, "n_killed": n_killed, "n_whole": n_whole, "n_different": n_different}
    print(json.dumps(result | {"left": sorted(path.name for path in store_path.parent.iterdir())}))


if __name__ == "__main__":
    # Not sooner: pytest imports this file while it collects tests.
    install()
    os.environ[DELAY] = "0.01"
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
