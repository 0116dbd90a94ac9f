"""What a download promises: the right bytes or an error, whatever the server does, and nothing fetched twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from unruly import Manners, serving

from cellssl.datasets.transfer.download import Patience, download
from cellssl.errors import NetworkError
from cellssl.randomness import generator

CONTENT = generator("download").bytes(3_000_000)
SHORT = Patience(tries=3, pause_s=0.001)


@pytest.fixture
def manners(tmp_path: Path) -> Manners:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.zip").write_bytes(CONTENT)
    return Manners(tmp_path / "there")


def brought(manners: Manners, target: Path) -> bytes:
    """The bytes that arrive; nothing else is left lying around."""
    with serving(manners) as address:
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def refused(manners: Manners, target: Path) -> str:
    with serving(manners) as address, pytest.raises(NetworkError) as caught:
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


def test_a_dropped_connection_is_gone_on_with_where_it_broke(manners: Manners, target: Path) -> None:
    manners.breaks_after, manners.breaks = 1_100_000, 2
    assert brought(manners, target) == CONTENT
    assert manners.sent == len(CONTENT)
    assert [wanted for _, wanted in manners.asked][1:] == ["bytes=1100000-", "bytes=2200000-"]


def test_a_server_without_ranges_sends_the_whole_file_again(manners: Manners, target: Path) -> None:
    manners.breaks_after, manners.ranges = 1_000_000, False
    assert brought(manners, target) == CONTENT
    assert manners.sent == 1_000_000 + len(CONTENT)


def test_an_answer_in_chunks_that_breaks_off_is_noticed(manners: Manners, target: Path) -> None:
    manners.breaks_after, manners.sized = 1_000_000, False
    assert brought(manners, target) == CONTENT
    assert manners.sent == len(CONTENT)  # the rest told how long the file is


def test_a_busy_server_is_asked_again(manners: Manners, target: Path) -> None:
    manners.busy = 2
    assert brought(manners, target) == CONTENT


@pytest.mark.parametrize("changed", [CONTENT[:-5] + b"other", CONTENT[: len(CONTENT) // 2], CONTENT[:500_000]])
def test_a_file_that_changed_on_the_server_is_never_mixed_with_the_old_one(
    non_default: bytes, manners: Manners, target: Path
) -> None:
    manners.breaks_after, manners.breaks = 1_000_000, 99
    with serving(manners) as address:
        arriving = download(f"{address}/a.zip", target, SHORT)
        next(arriving)
        arriving.close()
        manners.breaks = 0
        (manners.folder / "a.zip").write_bytes(changed)
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert target.read_bytes() == changed


def test_a_whole_part_is_not_asked_for_again(manners: Manners, target: Path) -> None:
    with serving(manners) as address:
        arriving = download(f"{address}/a.zip", target, SHORT)
        assert any(event.done == event.total for event in arriving)  # stops listening at the last byte
        arriving.close()
        for _ in download(f"{address}/a.zip", target, SHORT):
            pass
    assert target.read_bytes() == CONTENT
    assert len(manners.asked) == 1


def test_another_address_does_not_go_on_with_the_part_of_the_first(manners: Manners, target: Path) -> None:
    (manners.folder / "b.zip").write_bytes(CONTENT[::-1])
    with serving(manners) as address:
        arriving = download(f"{address}/a.zip", target, SHORT)
        next(arriving)
        arriving.close()
        for _ in download(f"{address}/b.zip", target, SHORT):
            pass
    assert target.read_bytes() == CONTENT[::-1]


def test_a_web_page_is_no_file(manners: Manners, target: Path) -> None:
    manners.page = True
    assert "web page" in refused(manners, target)


def test_a_web_page_does_not_cost_what_came_before(manners: Manners, target: Path) -> None:
    manners.breaks_after, manners.breaks = 1_100_000, 99
    with serving(manners) as address:
        arriving = download(f"{address}/a.zip", target, SHORT)
        next(arriving)
        arriving.close()
        manners.page, manners.breaks = True, 0
        with pytest.raises(NetworkError):
            list(download(f"{address}/a.zip", target, SHORT))
        manners.page = False
        list(download(f"{address}/a.zip", target, SHORT))
    assert target.read_bytes() == CONTENT
    assert manners.asked[-1][1] is not None


def test_a_server_that_gives_nothing_new_is_given_up(manners: Manners, target: Path) -> None:
    manners.breaks_after, manners.breaks, manners.ranges = 1_000_000, 99, False
    assert "cannot be downloaded" in refused(manners, target)
    assert len(manners.asked) <= 1 + SHORT.tries


def test_a_missing_file_and_a_dead_server_say_so(manners: Manners, target: Path) -> None:
    (manners.folder / "a.zip").unlink()
    assert "404" in refused(manners, target)
    with pytest.raises(NetworkError) as caught:
        list(download("http://127.0.0.1:9/a.zip", target, SHORT))
    assert "refused" in caught.value.message


def test_a_server_that_stays_busy_is_a_network_fault(manners: Manners, target: Path) -> None:
    manners.busy = 99
    assert "503" in refused(manners, target)
