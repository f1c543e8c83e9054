"""Moves and deletions of files that fail, or that the process ends at."""

import itertools
import os


def end_at(call, how):
    """Have the so-many-th change of the folder, of this process, end it; return how many changes there were."""
    count = itertools.count(1)

    def counted(original):
        def change(*arguments, **options):
            if next(count) == call:
                how()
            return original(*arguments, **options)

        return change

    return {name: counted(getattr(os, name)) for name in ("rename", "replace", "unlink", "rmdir")}, count


def fail():
    raise OSError(5, "Input/output error")
