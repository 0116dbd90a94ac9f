"""Tests of image_table and s3 with images on servers: they are fetched whole, or the reason is given."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chain import say
from misbehaving_server import Reply, ServerBehaviour, alter_first, alter_some, flips_a_bit, serving

from cellssl.datasets.transfer import s3

RECIPE = """
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna", actin = "actin" }
columns = { plate = "plate", well = "well", site = "site", compound = "drug", dose_micromolar = "dose" }
timeout_s = 5.0
[segment]
crop_px = 32
min_area_px = 50
workers = 1
"""


def use_addresses(plate: Path, base: str) -> str:
    """Write the table with addresses instead of paths, and its recipe; return the recipe."""
    text = (plate / "plate.csv").read_text()
    (plate / "plate.csv").write_text(re.sub(r"[^,]*images/", f"{base}images/", text))
    (plate / "mine.toml").write_text(RECIPE)
    return str(plate / "mine.toml")


def files(plate: Path, fetched: Path) -> dict[str, bytes]:
    fields = pd.read_parquet(fetched / "fields.parquet")
    store = fetched.parent
    return {
        f"{row.field_id}_{channel}": (store / row.part / getattr(row, f"path_{channel}")).read_bytes()
        for row in fields.itertuples()
        for channel in ("dna", "actin")
    }


def expected(plate: Path) -> dict[str, bytes]:
    named = {path.stem.replace("_1_", "_s1_").replace("_2_", "_s2_"): path for path in (plate / "images").glob("*.tif")}
    return {name: path.read_bytes() for name, path in named.items()}


def test_images_with_addresses_are_fetched_and_segmented(plate: Path, cellssl: Any) -> None:
    with serving(ServerBehaviour(plate)) as address:
        code, fetched, card = cellssl("fetch", use_addresses(plate, f"{address}/"))
    assert code == 0, card
    assert files(plate, fetched) == expected(plate)
    assert len(pd.read_csv(fetched / "record.csv")) == 16
    code, segmented, _ = cellssl("segment", str(plate / "mine.toml"))  # the server is gone now
    assert code == 0
    assert len(pd.read_parquet(segmented / "cells.parquet")) == 8 * 6


def test_a_table_may_hold_paths_and_addresses(plate: Path, cellssl: Any) -> None:
    with serving(ServerBehaviour(plate)) as address:
        recipe = use_addresses(plate, f"{address}/")
        table = (plate / "plate.csv").read_text()
        (plate / "plate.csv").write_text(table.replace(f"{address}/images/P1_B02_1_dna", "images/P1_B02_1_dna"))
        code, fetched, card = cellssl("fetch", recipe)
        assert code == 0, card
        (plate / "images/P1_B02_1_dna.tif").write_bytes((plate / "images/P1_B02_2_dna.tif").read_bytes())
        assert cellssl("fetch", recipe)[2]["fingerprint"] != card["fingerprint"]
    fields = pd.read_parquet(fetched / "fields.parquet").set_index("field_id")
    assert fields.loc["P1_B02_s1", "path_dna"] == str(plate / "images/P1_B02_1_dna.tif")
    assert fields.loc["P1_B02_s1", "path_actin"] == "P1/P1_B02_s1_actin.tif"


def test_broken_connections_change_nothing_and_half_an_image_is_fetched_again(plate: Path, cellssl: Any) -> None:
    behaviour = ServerBehaviour(plate, breaks_after=9_000, breaks=12)
    with serving(behaviour) as address:
        code, fetched, card = cellssl("fetch", use_addresses(plate, f"{address}/"))
    assert code == 0, card
    assert files(plate, fetched) == expected(plate)

    def half(reply: Reply) -> None:
        reply.body = reply.body[: len(reply.body) // 2]

    behaviour = ServerBehaviour(plate, alter=alter_first(1, half))
    with serving(behaviour) as other:
        code, fetched, _ = cellssl("fetch", use_addresses(plate, f"{other}/"), store="again")
    assert files(plate, fetched) == expected(plate)


def test_a_missing_image_is_quarantined_and_a_refusing_server_is_an_error(plate: Path, cellssl: Any) -> None:
    behaviour = ServerBehaviour(plate)
    (plate / "images/P2_C03_2_actin.tif").unlink()
    with serving(behaviour) as address:
        recipe = use_addresses(plate, f"{address}/")
        code, _, failure = cellssl("fetch", recipe)
        assert code == 3
        assert "P2_C03_2_actin.tif: the server answered 404" in failure["stderr"]
        code, fetched, card = cellssl("fetch", recipe, "--set", "fetch.max_failures=0.25")
        assert (code, card["metrics"]["quarantined"], card["metrics"]["fields"]) == (0, 1, 7)
        part = json.loads((fetched / "parts.json").read_text())["P2"]
        assert len(list((fetched.parent / part).rglob("*.tif"))) == 6
        behaviour.alter = lambda reply: setattr(reply, "status", 403)
        code, _, failure = cellssl("fetch", recipe, "--set", "fetch.max_failures=0.3")
        assert code == 4


def test_bits_flipped_in_images_without_a_checksum_are_found(plate: Path, cellssl: Any) -> None:
    behaviour = ServerBehaviour(plate, alter=alter_some(0.2, 6, flips_a_bit(6)))
    with serving(behaviour) as address:
        code, fetched, card = cellssl("fetch", use_addresses(plate, f"{address}/"))
        assert code == 0, card
        assert len(behaviour.requests) > 2 * 16
        behaviour.requests.clear()
        record = ("--set", f"fetch.dataset.checksums={fetched}/record.csv")
        assert cellssl("fetch", str(plate / "mine.toml"), *record, store="again")[0] == 0
    assert files(plate, fetched) == expected(plate)
    assert len(behaviour.requests) < 2 * 16  # with a checksum, once is enough


def test_text_in_place_of_an_image_is_a_network_fault(plate: Path, cellssl: Any) -> None:
    def send_an_error(reply: Reply) -> None:
        if "P2_C03_2" in reply.path:
            reply.body, reply.headers = b'{"error": "try later"}', {"Content-Type": "application/json"}

    behaviour = ServerBehaviour(plate, alter=send_an_error)
    with serving(behaviour) as address:
        recipe = use_addresses(plate, f"{address}/")
        code, _, failure = cellssl("fetch", recipe, "--set", "fetch.max_failures=0.9")
        assert code == 4 and 'the server sent text instead of an image: \'{"error"' in failure["stderr"]
        behaviour.alter = None
        code, fetched, _ = cellssl("fetch", recipe, "--set", "fetch.max_failures=0.9")
    assert files(plate, fetched) == expected(plate)


def test_a_body_without_a_marked_end_is_an_error(plate: Path, cellssl: Any) -> None:
    with serving(ServerBehaviour(plate, alter=lambda reply: setattr(reply, "framing", None))) as address:
        code, _, failure = cellssl("fetch", use_addresses(plate, f"{address}/"))
    assert code == 4
    assert "does not say how long the file is" in failure["stderr"]


def test_a_dry_run_asks_servers_only_for_sizes(plate: Path) -> None:
    behaviour = ServerBehaviour(plate)
    with serving(behaviour) as address:
        recipe = use_addresses(plate, f"{address}/")
        listed = json.loads(say("fetch", recipe, "--store", plate / "store", "--dry-run", "--json").out)
    assert listed["moved_bytes"] == 2 * listed["disk_bytes"]  # without https an image is fetched twice and compared
    assert listed["disk_bytes"] == sum(path.stat().st_size for path in (plate / "images").glob("*.tif"))
    assert behaviour.sent_bytes == 16


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets s3 addresses lead to a server with the bucket `lab`."""
    pytest.importorskip("s3fs")
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    def serve(address: str) -> None:
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3.file_system.cache_clear()
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    yield serve
    s3.file_system.cache_clear()


def test_images_in_a_bucket_are_fetched(plate: Path, bucket: Any, cellssl: Any) -> None:
    (plate / "lab").symlink_to(plate)
    with serving(ServerBehaviour(plate)) as address:
        bucket(address)
        code, fetched, card = cellssl("fetch", use_addresses(plate, "s3://lab/"))
    assert code == 0, card
    assert files(plate, fetched) == expected(plate)


def test_a_published_set_in_a_bucket_gives_the_same_result_by_its_members_alone(
    set_up: Path, bucket: Any, cellssl: Any
) -> None:
    recipe = str(set_up / "recipe.toml")
    _, _, here = cellssl("fetch", recipe)
    behaviour = ServerBehaviour(set_up)
    (set_up / "lab").symlink_to(set_up)
    with serving(behaviour) as address:
        bucket(address)
        code, _, there = cellssl("fetch", recipe, "--mirror", "s3://lab/there", store="other")
        assert code == 0, there
        (set_up / "there/BBBC021_v1_images_Week4_2.zip").unlink()
        code, _, failure = cellssl("fetch", recipe, "--mirror", "s3://lab/there", store="third")
        assert code == 4
        assert "is not there" in failure["stderr"]
    assert there["files"] == here["files"]
    assert behaviour.sent_bytes < 1.2 * 465_527 * 1.6


def test_without_its_library_an_s3_address_is_an_error_with_what_to_install(
    set_up: Path, cellssl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    s3.file_system.cache_clear()
    code, _, failure = cellssl("fetch", str(set_up / "recipe.toml"), "--mirror", "s3://lab/there")
    assert code == 2
    assert 'pip install "cellssl[s3]"' in failure["stderr"]
