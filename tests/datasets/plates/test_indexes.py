"""What indexes and tables leave in doubt is kept apart and said: planes per channel, names twice, numbers of sites."""

from pathlib import Path

from cellssl.datasets.plates.layout import Found, Plane
from cellssl.datasets.plates.recognise import Survey


def surveyed(*planes: Plane) -> Survey:
    """What was found in a folder with these planes."""
    return Survey(Path("plate"), [Found("TIFF", list(planes))], {}, [], [])


def plane(channel: str, site: int = 1, z: int = 0, t: int = 0) -> Plane:
    return Plane(f"{channel}{site}{z}{t}.tif", "P", "A01", site, channel, z=z, t=t)


def test_channels_may_have_different_numbers_of_z_planes() -> None:
    planes = [plane("dapi", site, z) for site in (1, 2) for z in (1, 2, 3)]
    found = surveyed(*planes, plane("gfp", 1, 1), plane("gfp", 2, 1))
    assert (found.incomplete, found.time_point) == ({}, None)


def test_the_time_point_that_is_taken_has_all_channels() -> None:
    found = surveyed(*(plane("dapi", site, t=t) for site in (1, 2) for t in (1, 2)), plane("gfp", 1, t=2))
    assert found.channels == ["dapi", "gfp"]
    assert found.time_point == 2
    assert found.incomplete == {("P", "", "A01", 2): "no image of gfp"}
