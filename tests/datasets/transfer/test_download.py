"""Tests of download: the right bytes or an error, whatever the server does, and nothing downloaded twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from misbehaving_server import ServerBehaviour, serving

from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.http import RetryPolicy
from cellssl.errors import NetworkError
from cellssl.randomness import generator

CONTENT = generator("download").bytes(3_000_000)
SHORT = RetryPolicy(tries=3, pause_s=0.001)


@pytest.fixture
def behaviour(tmp_path: Path) -> ServerBehaviour:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.zip").write_bytes(CONTENT)
    return ServerBehaviour(tmp_path / "there")


def download_file(behaviour: ServerBehaviour, target: Path) -> bytes:
    """Download the file; return its bytes, and assert that no other file is left."""
    with serving(behaviour) as address:
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def network_error(behaviour: ServerBehaviour, target: Path) -> str:
    with serving(behaviour) as address, pytest.raises(NetworkError) as caught:
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert not target.exists()
    assert caught.value.exit_code == 4
    assert caught.value.hint
    return caught.value.message


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "a.zip"


def test_a_download_continues_where_the_connection_broke(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.breaks_after, behaviour.breaks = 1_100_000, 2
    assert download_file(behaviour, target) == CONTENT
    assert behaviour.sent_bytes == len(CONTENT)
    assert [wanted for _, wanted in behaviour.requests][1:] == ["bytes=1100000-", "bytes=2200000-"]


def test_a_server_without_ranges_sends_the_whole_file_again(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.breaks_after, behaviour.grants_ranges = 1_000_000, False
    assert download_file(behaviour, target) == CONTENT
    assert behaviour.sent_bytes == 1_000_000 + len(CONTENT)


def test_a_broken_answer_in_chunks_is_noticed(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.breaks_after, behaviour.sends_length = 1_000_000, False
    assert download_file(behaviour, target) == CONTENT
    assert behaviour.sent_bytes == len(CONTENT)  # the answer with the rest gave the length of the file


def test_a_busy_server_is_asked_again(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.busy = 2
    assert download_file(behaviour, target) == CONTENT


@pytest.mark.parametrize("changed", [CONTENT[:-5] + b"other", CONTENT[: len(CONTENT) // 2], CONTENT[:500_000]])
def test_a_file_that_changed_on_the_server_is_never_mixed_with_the_old_one(
    changed: bytes, behaviour: ServerBehaviour, target: Path
) -> None:
    behaviour.breaks_after, behaviour.breaks = 1_000_000, 99
    with serving(behaviour) as address:
        downloading = download(f"{address}/a.zip", target, SHORT)
        next(downloading)
        downloading.close()
        behaviour.breaks = 0
        (behaviour.folder / "a.zip").write_bytes(changed)
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert target.read_bytes() == changed


def test_a_whole_part_is_not_downloaded_again(behaviour: ServerBehaviour, target: Path) -> None:
    with serving(behaviour) as address:
        downloading = download(f"{address}/a.zip", target, SHORT)
        assert any(event.done == event.total for event in downloading)  # stop iterating at the last byte
        downloading.close()
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert target.read_bytes() == CONTENT
    assert len(behaviour.requests) == 1


def test_another_address_does_not_continue_the_part_of_the_first(behaviour: ServerBehaviour, target: Path) -> None:
    (behaviour.folder / "b.zip").write_bytes(CONTENT[::-1])
    with serving(behaviour) as address:
        downloading = download(f"{address}/a.zip", target, SHORT)
        next(downloading)
        downloading.close()
        for _ in download(f"{address}/b.zip", target, SHORT):
            pass
    assert target.read_bytes() == CONTENT[::-1]


def test_a_web_page_is_an_error(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.web_page = True
    assert "web page" in network_error(behaviour, target)


def test_a_web_page_does_not_discard_what_came_before(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.breaks_after, behaviour.breaks = 1_100_000, 99
    with serving(behaviour) as address:
        downloading = download(f"{address}/a.zip", target, SHORT)
        next(downloading)
        downloading.close()
        behaviour.web_page, behaviour.breaks = True, 0
        with pytest.raises(NetworkError):
            list(download(f"{address}/a.zip", target, SHORT))
        behaviour.web_page = False
        list(download(f"{address}/a.zip", target, SHORT))
    assert target.read_bytes() == CONTENT
    assert behaviour.requests[-1][1] is not None


def test_a_server_that_sends_nothing_new_is_an_error(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.breaks_after, behaviour.breaks, behaviour.grants_ranges = 1_000_000, 99, False
    assert "cannot be downloaded" in network_error(behaviour, target)
    assert len(behaviour.requests) <= 1 + SHORT.tries


def test_a_missing_file_and_a_dead_server_are_errors(behaviour: ServerBehaviour, target: Path) -> None:
    (behaviour.folder / "a.zip").unlink()
    assert "404" in network_error(behaviour, target)
    with pytest.raises(NetworkError) as caught:
        list(download("http://127.0.0.1:9/a.zip", target, SHORT))
    assert "refused" in caught.value.message


def test_a_server_that_stays_busy_is_a_network_error(behaviour: ServerBehaviour, target: Path) -> None:
    behaviour.busy = 99
    assert "503" in network_error(behaviour, target)
