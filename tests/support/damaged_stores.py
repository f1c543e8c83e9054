"""Damage to a store's file, bit by bit."""

import hashlib

import h5py
from click.testing import CliRunner

from featx.cli import main
from featx.store.file import attributes_sha256, content_bytes, read_attributes


def flip(path, at, bit=0):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1 << bit]))


def chunk_at(path, name, number):
    with h5py.File(path) as file:
        return file[name].id.get_chunk_info(number).byte_offset


def seal(path):
    """Give a file that was written by hand the digests that its content has."""
    with h5py.File(path, "a") as file:
        for group in file.values():
            for dataset in group.values():
                dataset.attrs["sha256"] = hashlib.sha256(content_bytes(dataset[:])).hexdigest()
        file.attrs["attributes_sha256"] = attributes_sha256(read_attributes(file, path))


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def swap(file, name, one, other):
    values = file[name][:]
    values[[one, other]] = values[[other, one]]
    file[name][:] = values
