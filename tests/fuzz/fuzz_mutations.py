"""Malformed files made of sound ones, so that what is behind the first check is reached.

Checksums and lengths are mended, mostly, after the content was changed: whoever wishes
harm does so, too.
"""

import hashlib
import io
import json
import zipfile
import zlib

import yaml

NUMBERS = (
    *(0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64 - 1),
    *(
        -(2**63),
        10**30,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        True,
        False,
        None,
    ),
)
TEXTS = (
    *(
        "",
        "x",
        "0",
        "-1",
        "../../x",
        "/etc/passwd",
        "a\0b",
        "\x1b[2J",
        "é" * 40,
        "none",
    ),
    *("fedkd.strategy:Round", "builtins:eval", "os:system", "torch:load", "float32"),
    *("1" * 5000, "9" * 400, "nan", "inf", "0-999", "1e400", "I64", "U8", "F32"),
)
EMPTY = ([], {}, [[]], [{}], {"": None}, [0] * 40)
CALLED = ("../x.npy", "/x.npy", "classes.npy", "y_train.npy", "x_TRAIN.npy", "x")
TAILS = (b"\0" * 8, b"\xff" * 8, b"[" * 3000, b"{" * 400, b"\x7f" + b"\xff" * 7)
SEAL = b'\\"checksum\\": \\"'


def changed_value(value, rng):
    """Return a tree of plain values with a few of its places changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        value = _changed(value, rng)
    return value


def _changed(value, rng):
    inside = isinstance(value, list | dict) and len(value)
    if inside and rng.random() < 0.85:
        return _changed_inside(value, rng)
    return rng.choice(rng.choice((NUMBERS, TEXTS, EMPTY)))


def _changed_inside(value, rng):
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    what = rng.random()
    copy = dict(value) if isinstance(value, dict) else list(value)
    if what < 0.7:
        copy[key] = _changed(value[key], rng)
    elif what < 0.8:
        del copy[key]
    elif what < 0.9:
        copy[key] = value[rng.choice(keys)]
    elif isinstance(copy, list):
        copy.insert(key, value[key])
    else:
        copy[rng.choice(TEXTS)] = value[key]
    return copy


def changed_bytes(data, rng):
    """Return bytes with a few places changed, moved, doubled or cut off."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 1, 2, 8, 64))
        what = rng.randrange(7)
        if what == 0:
            data[at : at + size] = rng.randbytes(len(data[at : at + size]))
        elif what == 1:
            del data[at : at + size]
        elif what == 2:
            data[at:at] = rng.randbytes(size)
        elif what == 3:
            data[at:at] = data[at : at + size]
        elif what == 4:
            data[at : at + 8] = rng.choice(TAILS)
        elif what == 5 and data:
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def dumped(value):
    return json.dumps(value, skipkeys=True).encode()


def split(data):
    """Return the JSON header of safetensors, or of memories, and what comes after it."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, body):
    text = dumped(header)
    return len(text).to_bytes(8, "little") + text + body


def sealed(data):
    """Return a payload whose checksum fits."""
    start = data.find(SEAL)
    if start < 0:
        return data
    start += len(SEAL)
    empty = data[:start] + b"0" * 8 + data[start + 8 :]
    return data[:start] + b"%08x" % zlib.crc32(empty) + data[start + 8 :]


def changed_payload(data, rng):
    header, body = split(data)
    facts = json.loads(header["__metadata__"]["tree"])
    tree = json.loads(facts["tree"])
    where = rng.randrange(5)
    if where == 0:
        header = changed_value(header, rng)
        return sealed(joined(header, body))
    if where == 1:
        body = changed_bytes(body, rng)
    elif where == 2:
        facts = changed_value(facts, rng)
    else:
        tree = changed_value(tree, rng)
    if isinstance(facts, dict) and where > 2:
        facts["tree"] = dumped(tree).decode()
    header["__metadata__"]["tree"] = json.dumps(facts)
    return sealed(joined(header, body))


def changed_memories(data, rng):
    head, body = split(data)
    what = rng.randrange(4)
    if what == 0:
        body = changed_bytes(body, rng)
    elif what == 1:
        head = changed_value(head, rng)
    else:
        k = rng.choice(list(head["places"]))
        start, room, text = head["places"][k]
        structure, pieces = json.loads(text)
        if rng.random() < 0.5:
            pieces = changed_value(pieces, rng)
        else:
            structure = json.dumps(changed_value(json.loads(structure), rng))
        head["places"][k] = [start, room, json.dumps([structure, pieces])]
    if isinstance(head, dict) and rng.random() < 0.9:
        head["checksum"] = zlib.crc32(body)
    return joined(head, body)


def changed_prepared(data, rng):
    header, body = split(data)
    facts = header["__metadata__"]
    if rng.random() < 0.2:
        body = changed_bytes(body, rng)
    if rng.random() < 0.2:
        header = changed_value(header, rng)
    else:
        key = rng.choice(list(facts))
        value = changed_value(json.loads(facts[key]), rng)
        facts[key] = json.dumps(value)
        if key in ("number", "shape") and rng.random() < 0.5:
            header["images"] = changed_value(header["images"], rng)
    if rng.random() < 0.8 and isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["checksum"] = json.dumps(
            hashlib.sha256(body).hexdigest()
        )
    return joined(header, body)


def changed_npz(data, rng):
    """Return a zip of arrays, whole as such, with some of its arrays changed."""
    made = io.BytesIO()
    way = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(made, "w", way) as new,
    ):
        hit = rng.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            if name == hit:
                content = changed_npy(content, rng)
            called = name if rng.random() < 0.97 else rng.choice(CALLED)
            if called not in new.namelist():
                new.writestr(called, content)
    whole = made.getvalue()
    return changed_bytes(whole, rng) if rng.random() < 0.2 else whole


def changed_npy(content, rng):
    length = int.from_bytes(content[8:10], "little")
    head, body = content[10 : 10 + length], content[10 + length :]
    if rng.random() < 0.3:
        return content[: 10 + length] + changed_bytes(body, rng)
    if rng.random() < 0.5:
        kinds = (
            "<f8",
            "|O",
            "<U0",
            "<U9",
            "|V4",
            "<c16",
            "|b1",
            "<M8[s]",
            ">i2",
            "|S3",
        )
        text = head.decode("latin-1")
        start = text.index("'descr': '") + 10
        text = text[:start] + rng.choice(kinds) + text[text.index("'", start) :]
        head = text.encode("latin-1")
    else:
        number = str(rng.choice((-1, 0, 1, 2, 10**6, 2**31, 2**40, 2**63, 2**80)))
        shape = rng.choice(
            (f"({number},)", f"({number}, {number})", "()", f"({number})")
        )
        text = head.decode("latin-1")
        at = text.index("'shape': ") + 9
        head = (text[:at] + shape + text[text.index(")", at) + 1 :]).encode("latin-1")
    if rng.random() < 0.2:
        head = changed_bytes(head, rng)
    return content[:8] + len(head).to_bytes(4, "little")[:2] + head + body


def changed_suite(data, rng):
    value = yaml.safe_load(data)
    other = changed_value(value, rng)
    return yaml.safe_dump(other, sort_keys=False, allow_unicode=True).encode(
        "utf-8", "surrogatepass"
    )


INSIDE = {
    "payload": changed_payload,
    "checkpoint": changed_payload,
    "memories": changed_memories,
    "prepared": changed_prepared,
    "npz": changed_npz,
    "suite": changed_suite,
    "image": changed_bytes,
}
"""Ways of changing that know the format, by target."""


def malformed(target, data, rng):
    """Return a file that is made of a sound one, or of one that was changed before."""
    if rng.random() < 0.25:
        return changed_bytes(data, rng)
    try:
        return INSIDE[target](data, rng)
    # It was changed before, so that nothing can be told of its form any more.
    except Exception:
        return changed_bytes(data, rng)
