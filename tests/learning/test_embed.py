"""embed: the same vectors with any number of threads, and views that are rendered ahead in the right order."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from cellssl.learning.embed import EmbeddingViews, embed
from cellssl.learning.encoders import small
from cellssl.learning.threads import torch_threads
from cellssl.learning.training.readers import ahead
from cellssl.learning.transforms import color_jitter
from cellssl.learning.view import View
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import generator

CPU = torch.device("cpu")


def batches(sizes: tuple[int, ...] = (5, 5, 3)) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Crops of noise, in batches of these sizes."""
    crops = generator("tests", "embed").integers(0, 256, (sum(sizes), 3, 24, 24), np.uint8)
    for rows in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        yield rows, torch.from_numpy(crops[rows])


def vectors(draws: int = 1) -> np.ndarray:
    views = EmbeddingViews(24)
    if draws > 1:
        view = View((color_jitter.Settings(brightness=0.5),))
        views = EmbeddingViews(24, view, draws, torch.arange(13))
    network = init_encoder(small.Settings(widths=(8, 16)), 3, 0, "encoder")
    return np.concatenate(list(embed(network, batches(), views, CPU)))


@pytest.mark.parametrize("draws", [1, 3])
def test_vectors_are_the_same_bytes_with_any_number_of_threads(draws: int) -> None:
    found = []
    for threads in (1, 2, 3):
        with torch_threads(threads):
            found.append(vectors(draws).tobytes())
    assert found[0] == found[1] == found[2]


def test_vectors_come_in_the_order_of_the_crops_one_per_crop() -> None:
    network = init_encoder(small.Settings(widths=(8, 16)), 3, 0, "encoder").eval()
    with torch.no_grad():
        alone = [network(crops.float() / 255).numpy() for _, crops in batches()]
    assert vectors() == pytest.approx(np.concatenate(alone), abs=1e-5)


def test_items_made_ahead_come_in_order_and_an_error_comes_where_it_happened() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("the fourth")

    ahead_of_use = ahead(items(), "test")
    assert [next(ahead_of_use) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(ahead_of_use)
