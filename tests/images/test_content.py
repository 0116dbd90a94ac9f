"""Content: what the hash of an image counts: its bytes and what is chosen in them, not where it lies."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import tifffile
from made_up_images import NAMED, TCZYX

from cellssl.images.content import files_of, hashes_of, is_composed, state_of
from cellssl.images.reference import ImageReference


def sha256_of_all(paths: Iterable[Path]) -> Mapping[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def hash_of(reference: ImageReference) -> str | None:
    return hashes_of([str(reference)], sha256_of_all).get(str(reference))


def test_the_hash_of_a_plain_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, TCZYX[0, 0, 0])
    assert hash_of(ImageReference((str(path),))) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert hash_of(ImageReference((str(tmp_path / "none.tif"),))) is None


def test_two_channels_of_one_file_have_two_hashes_wherever_it_lies(tmp_path: Path) -> None:
    hashes = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"{folder}.ome.tif"
        NAMED["tczyx.ome.tif"](path)
        hashes.append([ImageReference((str(path),), channel=number, z="max", t=0) for number in (0, 1)])
    (tmp_path / "there" / "there.ome.tif").write_bytes((tmp_path / "here" / "here.ome.tif").read_bytes())
    first, second = ([hash_of(reference) for reference in references] for references in hashes)
    assert first == second and first[0] != first[1]


def test_an_ome_zarr_image_is_hashed_as_a_tree_without_its_reduced_copies(tmp_path: Path) -> None:
    for name in ("0.4.zarr", "0.5.zarr"):
        path = tmp_path / name
        NAMED[name](path)
        reference = ImageReference((str(path),), channel=0, z=0, t=0)
        before, state = hash_of(reference), state_of(reference)
        assert all(not place.startswith("s1") for place in files_of(str(path)))
        next(one for one in (path / "s1").rglob("*") if one.is_file()).write_bytes(b"other")
        (path / ".DS_Store").write_bytes(b"")
        assert (hash_of(reference), state_of(reference)) == (before, state)
        chunk = next(one for one in sorted((path / "s0").rglob("*")) if one.is_file() and one.name != "zarr.json")
        chunk.write_bytes(b"other")
        assert hash_of(reference) != before and state_of(reference) != state


def test_a_folder_or_a_choice_makes_an_image_composed(tmp_path: Path) -> None:
    assert not is_composed(str(tmp_path / "a.tif"))
    assert is_composed(str(tmp_path))
    assert is_composed(str(ImageReference(("a.tif",), channel=0)))
