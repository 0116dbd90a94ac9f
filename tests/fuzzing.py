"""fuzzing: good files in, damaged and forged ones out; and commands run on them, with what they may not do checked.

A forged artifact has a card that fits its files, so that no hash protects. Whatever it holds, a command ends with an
exit code of the table and a sentence; it opens nothing outside the store, and is bounded in memory and time.
"""

import hashlib
import json
import random
import resource
import shutil
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from chain import Said, say

CODES = (0, 1, 2, 3, 4, 5)
"""Exit codes that a command may have here; nothing is interrupted or busy."""
TRY_S = 300
"""Longest time of one command, which takes seconds."""
TRY_BYTES = 6 * 2**30
"""How much the address space may grow in one command."""
CHAINS = ("zscore", '["zscore"]', '["tvn", "l2"]', '[{"name": "robust_z"}]', '[{"name": "pca", "variance": 2}]')
"""Links of a chain, and what looks like them."""
NEAR = 2**31
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, NEAR, -NEAR, 2**63 - 1, -(2**63), 2**64, 10**30, 0.5, -1.5, 1e308, 5e-324, "", "x",
    "../../outside/secret", "/outside/secret", "a/b", "..", "nan", "0", "0123456789ab", "\ud800", "\0", "é" * 300,
    "=cmd|' /C calc'!A0", [], {}, [None], [[[[]]]], {"": {}}, {"name": "small"}, {"name": "../x"},
    {"a": [1, {"b": None}]},
)  # fmt: skip


def seal(folder: Path, card: dict[str, Any] | None = None) -> None:
    """Write the card that fits the files of a folder, as anyone could who knows the format."""
    path = folder / "artifact.json"
    content = json.loads(path.read_text()) if card is None else card
    content.pop("sha256", None)
    if card is None:
        for name in content["files"]:
            file = folder / name
            if file.is_file():
                data = file.read_bytes()
                content["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    except (TypeError, ValueError, RecursionError):
        content["sha256"] = "0" * 64
    path.write_text(json.dumps(content), encoding="utf-8")


def flipped(data: bytes, random_: random.Random) -> bytes:
    """Change some bytes: single ones, a run of them, the length."""
    if not data:
        return b"\0"
    changed = bytearray(data)
    place = random_.randrange(len(changed))
    match random_.randrange(8):
        case 0:
            del changed[place:]
        case 1:
            changed[place:place] = random_.randbytes(random_.randrange(1, 64))
        case 2:
            del changed[place : place + random_.randrange(1, 64)]
        case 3:
            changed[place : place + 64] = bytes(len(changed[place : place + 64]))
        case 4:
            number = random_.choice((0, 1, 0xFF, 2**31 - 1, 2**32 - 1, 2**63 - 1))
            packed = struct.pack(random_.choice("<>") + "Q", number)
            changed[place : place + 8] = packed[: len(changed[place : place + 8])]
        case _:
            for _ in range(random_.choice((1, 1, 2, 8, 64))):
                changed[random_.randrange(len(changed))] = random_.randrange(256)
    return bytes(changed)


def changed_json(value: Any, random_: random.Random) -> Any:
    """Return a JSON value with one value in it removed, exchanged or replaced."""
    value = json.loads(json.dumps(value))
    places = [(above, key) for above, key in _places(value)]
    if not places:
        return random_.choice(VALUES)
    above, key = random_.choice(places)
    match random_.randrange(6):
        case 0:
            del above[key]
        case 1:
            other, name = random_.choice(places)
            above[key] = json.loads(json.dumps(other[name]))
        case 2 if isinstance(above[key], int | float):
            above[key] = random_.choice((-1, 0, 1e-9, 1e9, 1e300)) * (above[key] or 1)
        case 3:
            deep: Any = random_.choice(VALUES)
            for _ in range(random_.choice((3, 70, 400))):
                deep = [deep]
            above[key] = deep
        case _:
            above[key] = random_.choice(VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(below)


def changed_json_text(text: str, random_: random.Random) -> str:
    """Return JSON text with a change that only text can have: a key twice, a number of 5,000 digits, NaN."""
    spoiled = (
        "NaN",
        "-Infinity",
        "1e999",
        "9" * 5000,
        "[" * 100_000,
        '{"a": 1, "a": 2}',
        '"\\ud800"',
        "0x1",
        "\ufeff1",
    )
    spots = [place for place, character in enumerate(text) if character == ":"]
    place = random_.choice(spots) + 1 if spots else 0
    end = min([found for found in (text.find(",", place), text.find("}", place)) if found >= 0] or [len(text)])
    return text[:place] + random_.choice(spoiled) + text[end:]


def changed_table(path: Path, random_: random.Random) -> None:  # noqa: PLR0912  # a case per kind of change
    """Write a parquet file again with a column or some rows changed."""
    table = pq.read_table(path)
    place = random_.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    rows = table.num_rows
    match random_.randrange(12):
        case 0:
            table = table.drop_columns([name])
        case 1:
            other = random_.choice((*table.column_names, "x", "", "emb_0000", "__index_level_0__", "Metadata_Plate"))
            table = table.rename_columns([other if one == name else one for one in table.column_names])
        case 2:
            spoiled = column.to_pylist()
            for _ in range(random_.choice((1, max(1, rows)))):
                if spoiled:
                    spoiled[random_.randrange(len(spoiled))] = None
            table = table.set_column(place, name, pa.array(spoiled, column.type))
        case 3:
            kinds: list[Callable[[], pa.Array]] = [
                lambda: pa.array([str(number) for number in range(rows)]),
                lambda: pa.array(np.zeros(rows)),
                lambda: pa.array(np.full(rows, np.inf)),
                lambda: pa.array(np.full(rows, -1)),
                lambda: pa.array(np.full(rows, 2**62)),
                lambda: pa.array(np.zeros(rows, bool)),
                lambda: pa.nulls(rows),
                lambda: pa.array([[1, 2]] * rows),
                lambda: pa.array([{"a": 1}] * rows),
                lambda: pa.array([b"\0\xff"] * rows),
                lambda: pa.array(["../../outside/secret"] * rows),
                lambda: pa.array(["same"] * rows).dictionary_encode(),
                lambda: pa.array(np.arange(rows), pa.timestamp("ns")),
                lambda: pa.array(np.arange(rows), pa.uint64()),
                lambda: pa.array(np.arange(rows).astype(np.float16)),
            ]
            table = table.set_column(place, name, random_.choice(kinds)())
        case 4:
            other = random_.randrange(table.num_columns)
            table = table.set_column(place, name, table.column(other))
        case 5:
            table = table.slice(0, random_.choice((0, 1, rows // 2)))
        case 6:
            table = pa.concat_tables([table, table])
        case 7:
            table = table.take(pa.array(random_.sample(range(rows), rows)))
        case 8:
            shuffled = column.take(pa.array(random_.sample(range(rows), rows)))
            table = table.set_column(place, name, shuffled)
        case 9:
            text = table.schema.metadata or {}
            about = json.dumps(changed_json(json.loads(text.get(b"pandas", b"{}")), random_)).encode("utf-8", "replace")
            table = table.replace_schema_metadata({**text, b"pandas": about})
        case 10:
            table = table.append_column(random_.choice((name, "label", "plate", "cluster", "part", "crop_row")), column)
        case _:
            numbers = column.to_pylist()
            if numbers:
                numbers[random_.randrange(len(numbers))] = numbers[0]
            table = table.set_column(place, name, pa.array(numbers, column.type))
    pq.write_table(table, path)


def changed_npy(data: bytes, random_: random.Random) -> bytes:
    """Return an .npy file with another header, or other bytes."""
    length = struct.unpack_from("<H", data, 8)[0]
    header, pixels = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    shape = header[header.index("(") : header.index(")") + 1]
    shapes = (
        "()",
        "(1,)",
        "(0, 3, 48, 48)",
        "(-1, 3, 48, 48)",
        f"({10**12}, 3, 48, 48)",
        f"({2**62}, 4, 4, 4)",
        "(1, 2, 3)",
    )
    shapes += (f"({shape[1:-1]}, 1)", "(348, 3, 48, 47)", "(True, 3, 48, 48)", "(1.5, 3)", "[1]", "(" * 200)
    match random_.randrange(4):
        case 0:
            header = header.replace(shape, random_.choice(shapes))
        case 1:
            kinds = (
                "'|O'",
                "'<f8'",
                "'>u2'",
                "'<i2'",
                "'|V2'",
                "'<U1'",
                "[('a', '<u2')]",
                "'<u2', 'x': 1",
                "'|S0'",
                "3",
            )
            header = header.replace("'<u2'", random_.choice(kinds)).replace("'<f8'", random_.choice(kinds))
        case 2:
            header = header.replace("False", random_.choice(("True", "None", "1", "''")))
        case _:
            return flipped(data[: 10 + length], random_) + pixels
    packed = header.encode("latin1")
    return (
        data[:6]
        + bytes((random_.choice((1, 1, 1, 0, 3)), 0))
        + struct.pack("<H", len(packed) % 2**16)
        + packed
        + pixels
    )


def changed_npz(path: Path, random_: random.Random) -> None:
    """Write an .npz file again with one array missing, of another shape or type, or not finite."""
    with np.load(path, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in opened}
    name = random_.choice(list(arrays))
    array = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: np.zeros(3, object),
        lambda: np.zeros(()),
        lambda: np.zeros((0, 16)),
        lambda: np.full(array.shape, np.nan),
        lambda: np.full(array.shape, -np.inf),
        lambda: array[..., None],
        lambda: np.array("../../outside"),
        lambda: np.array(random_.choice(CHAINS)),
        lambda: np.array(random_.choice((-1, 0, 2**62))),
        lambda: array.astype("c16") if array.dtype.kind in "fi" else array.astype("S9"),
        lambda: np.zeros((300_000, 100)),
    ]
    arrays[name] = random_.choice(changes)()
    if random_.random() < 0.2:
        del arrays[name]
    save = np.savez_compressed if random_.random() < 0.3 else np.savez
    save(path, **arrays)


def changed_safetensors(data: bytes, random_: random.Random) -> bytes:
    """Return a file of weights with another header: lies about places, types and shapes."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[random_.choice(names)]
    match random_.randrange(7):
        case 0:
            entry["data_offsets"] = [random_.choice((0, -4, 8, 10**12)), random_.choice((0, 64, 10**13))]
        case 1:
            entry["dtype"] = random_.choice(("F64", "I8", "F16", "BF16", "BOOL", "X", 3, "I32"))
        case 2:
            entry["shape"] = random_.choice(([], [0], [-1], [2**40, 2**40], [1] * 70, "x", [*entry["shape"], 1]))
        case 3:
            entry["data_offsets"] = header[random_.choice(names)]["data_offsets"]
        case 4:
            header[random_.choice(("x", "a" * 1000, ""))] = header.pop(random_.choice(names))
        case 5:
            header = changed_json(header, random_)
        case _:
            length = random_.choice((0, 1, 2**40, 2**63))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if random_.random() < 0.9 else length) + text + data[8 + length :]


@dataclass
class Store:
    """A store of a stranger, in which one artifact at a time is forged, and a store of one's own beside it."""

    root: Path
    good: Path
    recipe: Path

    @property
    def theirs(self) -> Path:
        """The store with the forged artifact."""
        return self.root / "theirs"

    @classmethod
    def of(cls, good: Path, recipe: Path, root: Path) -> "Store":
        """Copy a good store, and put something beside it that must not be read."""
        shutil.copytree(good, root / "theirs", ignore=shutil.ignore_patterns("*.aside-*"))
        (root / "outside").mkdir()
        (root / "outside" / "secret").write_text("not for you")
        return cls(root, good, recipe)

    def artifacts(self, kind: str) -> list[Path]:
        """The artifacts of one kind."""
        return sorted(path.parent for path in (self.theirs / kind).glob("*/artifact.json"))

    def made(self, kind: str) -> Path:
        """The artifact that the recipe's own arm names, whatever else has been made from it."""
        pointer = next(self.theirs.glob(f"by-recipe/tiny/main/*/{kind}.json"))
        return self.theirs / kind / str(json.loads(pointer.read_text())["fingerprint"])

    def restore(self, folder: Path) -> None:
        """Make an artifact good again, and forget what was made."""
        shutil.rmtree(folder)
        shutil.copytree(self.good / folder.relative_to(self.theirs), folder)
        shutil.rmtree(self.root / "mine", ignore_errors=True)

    def commands(self, folder: Path, random_: random.Random) -> list[list[object]]:
        """One command that makes something of an artifact of this kind, and one that looks at it."""
        kind = folder.parent.name
        stores = ["--store", self.root / "mine", "--store", self.theirs, "--force", "-q", "--device", "cpu"]
        of_kind: dict[str, list[list[object]]] = {
            "fetch": [["segment", self.recipe, "--set", "segment.method=watershed"]],
            "segment": [["split", self.recipe], ["embed", self.recipe, "--arm", "intensities"]],
            "split": [["embed", self.recipe, "--arm", "intensities"]],
            "pretrain": [["embed", self.recipe], ["embed", self.recipe, "--set", "embed.layer=projector"]],
            "embed": [["evaluate", self.recipe], ["cluster", self.recipe], ["hits", self.recipe]],
            "cluster": [["cluster", self.recipe, "--set", f"cluster.assign_to={folder}"]],
        }
        own = [[*words, *stores] for words in of_kind.get(kind, [])]
        report = ["report", self.recipe, *stores[:-2]]
        looking: list[list[object]] = [
            ["verify", folder],
            ["diff", folder, self.good / folder.relative_to(self.theirs)],
            ["status", self.recipe, "--store", self.theirs],
            ["run", self.recipe, "--dry-run", "--store", self.theirs],
        ]
        if kind != "fetch" and (not own or random_.random() < 0.2):
            own = [report]
        return [random_.choice(own), random_.choice(looking)]


def forge(folder: Path, random_: random.Random) -> str:  # noqa: PLR0912  # a case per kind of file
    """Change one thing in an artifact and seal it; return what was changed."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".html")]
    file = random_.choice(files)
    if random_.random() < 0.3:
        file = folder / "artifact.json"
    if random_.random() < 0.02 and file.name != "artifact.json":
        file.write_bytes(flipped(file.read_bytes(), random_))
    elif file.name == "artifact.json":
        card = json.loads(file.read_text())
        part = random_.choice(("section", "metrics", "inputs", "files", "run", "all", "text", "bytes"))
        if part == "text":
            file.write_text(changed_json_text(file.read_text(), random_), encoding="utf-8")
        elif part == "bytes":
            file.write_bytes(flipped(file.read_bytes(), random_))
        elif part == "all":
            card = changed_json(card, random_)
            seal(folder, card if isinstance(card, dict) else {})
        else:
            card[part] = changed_json(card[part], random_)
            seal(folder, card)
        return f"{file}: {part}"
    elif file.suffix == ".json":
        if random_.random() < 0.5:
            file.write_text(json.dumps(changed_json(json.loads(file.read_text()), random_)), encoding="utf-8")
        else:
            file.write_text(changed_json_text(file.read_text(), random_), encoding="utf-8")
    elif file.suffix == ".parquet" and random_.random() < 0.8:
        changed_table(file, random_)
    elif file.suffix == ".npy" and random_.random() < 0.8:
        file.write_bytes(changed_npy(file.read_bytes(), random_))
    elif file.suffix == ".npz" and random_.random() < 0.8:
        changed_npz(file, random_)
    elif file.suffix == ".safetensors" and random_.random() < 0.8:
        file.write_bytes(changed_safetensors(file.read_bytes(), random_))
    else:
        file.write_bytes(flipped(file.read_bytes(), random_))
    seal(folder)
    return str(file)


OPENED: list[str] | None = None
"""Paths that were opened, while they are noted."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED is not None and event == "open" and isinstance(arguments[0], str | bytes):
        path = arguments[0]
        OPENED.append(path if isinstance(path, str) else path.decode("utf-8", "replace"))


sys.addaudithook(_note)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Note every file that is opened, and bound time and memory of what runs within."""
    global OPENED  # noqa: PLW0603  # an audit hook stays for ever
    opened: list[str] = []
    OPENED = opened
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + TRY_BYTES, hard))
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TRY_S)
    try:
        yield opened
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        OPENED = None


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"a command took longer than {TRY_S} s")


def fault_of(words: list[object]) -> str:
    """Run a command in this process; return what it did that it may not do, "" where nothing."""
    with watched() as opened:
        try:
            said = say(*words)
        except BaseException:  # that is what is looked for, MemoryError and RecursionError among it
            return traceback.format_exc()
    return _fault(said, opened)


def _fault(said: Said, opened: list[str]) -> str:
    outside = [path for path in opened if "/outside" in path]
    if outside:
        return f"opened {outside[0]}"
    if said.code not in CODES:
        return f"exit code {said.code}: {said.err}"
    if said.code and "error: " not in said.err:
        return f"no sentence: {said.err}"
    return f"a traceback: {said.err}" if "Traceback" in said.err + said.out else ""


def changed_recipe(text: str, random_: random.Random) -> str:
    """Return a recipe with a line removed, moved or twice, a value replaced, or bytes that no recipe has."""
    lines = text.splitlines()
    place = random_.randrange(len(lines))
    values = (
        "nan", "-inf", "9" * 5000, "0x" + "f" * 400, "1e400", "true", '""', "[]", "{}", '"../../outside/secret"', "-1",
        "[" * 5000, "{a=" * 500, "1979-05-27T07:32:00Z", '"\\ud800"', '"\\u0000"', '"x"', "[1, 'a']", "0.5", "2",
        str(2**63), '{ name = "x" }', '"0123456789ab"',
    )  # fmt: skip
    match random_.randrange(6):
        case 0:
            del lines[place]
        case 1:
            lines.insert(random_.randrange(len(lines)), lines[place])
        case 2:
            lines.insert(place, "[" + ".".join(["a"] * random_.choice((1, 3, 3000))) + "]")
        case 3:
            return flipped(text.encode(), random_).decode("latin1")
        case _:
            assigned = [number for number, line in enumerate(lines) if "=" in line]
            place = random_.choice(assigned)
            lines[place] = f"{lines[place].partition('=')[0]}= {random_.choice(values)}"
    return "\n".join(lines)
