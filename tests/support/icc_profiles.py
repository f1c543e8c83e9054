"""Small ICC profiles of known colours."""

import itertools
import struct

import numpy as np

# Red, green and blue in CIE XYZ, for D50.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
_WHITE = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries=SRGB, curve=2.2, pad=0):
    """Return a profile of three primaries; `curve` is a gamma or "sRGB", `pad` bytes make it larger."""
    colours = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, primaries), strict=True))
    return _profile(b"RGB ", colours | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve)), pad=pad)


def gray_profile(curve=2.2):
    return _profile(b"GRAY", {b"kTRC": _curve(curve)})


def cmyk_profile(magenta_lab=(50, 70, 0)):
    """Return a profile of inks of which magenta is one's own colour, black is black, and the others leave paper."""
    corners = [
        (0, 0, 0) if black else magenta_lab if magenta else (100, 0, 0)
        for _, magenta, _, black in itertools.product((0, 1), repeat=4)
    ]
    table = bytes(round(value) for L, a, b in corners for value in (L * 2.55, a + 128, b + 128))
    ramp = bytes(range(256))
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + unit + 4 * ramp + table + 3 * ramp
    return _profile(b"CMYK", {b"A2B0": lut, b"A2B1": lut}, kind=b"prtr", connection=b"Lab ")


def srgb_of(linear):
    """Turn linear sRGB, 0 to 1, into numbers of 0 to 255."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def seen_as(pixels, primaries, gamma):
    """Return what a viewer shows of RGB numbers: the sRGB that the definitions of a profile give."""
    xyz = (np.asarray(pixels) / 255) ** gamma @ np.array(primaries)
    return srgb_of(xyz @ np.linalg.inv(np.array(SRGB)))


def _xyz(values):
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(curve):
    if curve == "sRGB":
        # As the profiles of cameras and programs have it: a table.
        steps = np.linspace(0, 1, 1024)
        linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.rint(linear * 65535).astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(curve * 256))


def _profile(space, tags, *, kind=b"mntr", connection=b"XYZ ", pad=0):
    tags = {b"wtpt": _xyz(_WHITE), b"cprt": b"text\0\0\0\0none\0"} | tags
    tags |= {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)}
    if pad:
        tags[b"pad "] = b"data\0\0\0\0\0\0\0\1" + np.random.default_rng(0).bytes(pad)
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I", start + len(body)) + bytes(4) + b"\2\x10\0\0" + kind + space + connection
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return head + struct.pack(">3i", *(round(value * 65536) for value in _WHITE)) + bytes(48) + table + body
