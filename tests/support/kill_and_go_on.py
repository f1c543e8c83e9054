"""A program that kills featx extract so many times at random moments, and says what came of it as JSON.

Usage: python kill_and_go_on.py IMAGES STORE N. Every store is made of a part of the images first, and the others are
added; whenever one is whole, its features are compared, and the next one is begun.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from stub_network import DELAY, install

import featx


def extract(manifest, store_path, **options):
    """Run in a process of its own, and return at once."""
    pid = os.fork()
    if not pid:
        try:
            featx.extract_features(
                manifest, store_path, weights="random", layers="all", image_size=32, batch_size=4, **options
            )
        except BaseException as error:  # noqa: BLE001 - a fork must never go on as its parent
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return pid


def finish(pid):
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def features(store_path):
    with featx.open(store_path) as store:
        return store.matrix().tobytes(), store.images.to_csv(), store.rejected.to_csv()


def main(images, store_path, n_wanted):
    whole = featx.read_source(images)
    part = replace(whole, table=whole.table.iloc[::2].reset_index(drop=True))
    undisturbed_path = store_path.with_name("undisturbed.h5")
    begun = time.monotonic()
    codes = [finish(extract(part, undisturbed_path)), finish(extract(whole, undisturbed_path))]
    seconds = (time.monotonic() - begun) / 2
    expected = features(undisturbed_path)

    chance = random.Random(0)  # noqa: S311
    n_killed = n_whole = n_different = 0
    is_added_to = is_begun = False
    # The last store is finished and compared too, whichever half of it the last kill was in.
    while n_killed < n_wanted or is_added_to or is_begun or not n_whole:
        pid = extract(whole if is_added_to else part, store_path)
        if n_killed < n_wanted:
            time.sleep(chance.random() * seconds)
            os.kill(pid, signal.SIGKILL)
        code = finish(pid)
        n_killed += code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL):
            codes.append(code)
            break
        if code == 0 and is_added_to:
            n_whole += 1
            n_different += features(store_path) != expected
            store_path.unlink()
        is_added_to = is_added_to != (code == 0)
        is_begun = code != 0
    left = sorted(path.name for path in store_path.parent.iterdir())
    print(
        json.dumps(
            {
                "codes": codes,
                "seconds": seconds,
                "n_killed": n_killed,
                "n_whole": n_whole,
                "n_different": n_different,
                "left": left,
            }
        )
    )


if __name__ == "__main__":
    # Not sooner: the tests' collection imports this file too.
    install()
    os.environ[DELAY] = "0.01"
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
