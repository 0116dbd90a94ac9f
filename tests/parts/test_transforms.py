"""The contract of every transform: drawn from keys alone, the same in any batch, in [0, 1], and ready for JSON."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from cellssl.config import plugins
from cellssl.config.settings import Plugin, first_fault
from cellssl.errors import UsageError
from cellssl.learning.view import View, ViewSettings
from cellssl.randomness import Keys, cell_keys, generator

FOLDER = "cellssl.learning.transforms"
EXAMPLES: dict[str, dict[str, Any]] = {
    "affine": {"degrees": 20, "translate": 0.1, "scale": [0.8, 1.2], "shear": 10},
    "center_crop": {"side": 0.5},
    "channel_drop": {"p": 0.7},
    "channel_jitter": {"brightness": 0.4, "contrast": 0.4, "gamma": 0.4},
    "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.125},
    "defocus": {"radius": [1.0, 4.0], "p": 0.5},
    "elastic": {"alpha": 100, "sigma": 4, "p": 0.5},
    "gaussian_blur": {"p": 0.5},
    "gaussian_noise": {"p": 0.5},
    "grayscale": {"p": 0.5},
    "horizontal_flip": {},
    "invert": {},
    "pad": {"padding": [0.1, 0.4], "fill": 1.0},
    "random_crop": {"size": 32, "padding": 4},
    "random_erasing": {"p": 0.9},
    "random_resized_crop": {"scale": [0.5, 1.5], "beyond": "pad"},
    "resize": {"size": 20},
    "rotate": {"degrees": 180},
    "vertical_flip": {},
}
NAMES = plugins.names(FOLDER)
"""A transform without an example is tested with its defaults."""
WITH_P = [name for name in NAMES if "p" in plugins.load(FOLDER, name).Settings.model_fields]


def view_of(*transforms: dict[str, Any]) -> View:
    return View(TypeAdapter(ViewSettings).validate_python(transforms))


def example(name: str, **settings: Any) -> View:
    return view_of({"name": name, **EXAMPLES.get(name, {}), **settings})


def keys_of(count: int) -> Keys:
    return Keys(torch.from_numpy(cell_keys(f"cell {i}" for i in range(count))))


def crops_of(count: int, channels: int = 3, side: int = 48) -> torch.Tensor:
    pixels = generator("test", "crops").integers(0, 256, (count, channels, side, side), dtype="uint8")
    return torch.from_numpy(pixels)


def test_every_example_is_of_a_transform() -> None:
    assert set(EXAMPLES) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_keys_give_the_same_bits(name: str) -> None:
    assert torch.equal(
        example(name).render(crops_of(9), keys_of(9), 40), example(name).render(crops_of(9), keys_of(9), 40)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_looks_the_same_in_any_batch(name: str) -> None:
    crops, keys = crops_of(40), keys_of(40)
    together = example(name).render(crops, keys, 40)
    some = [31, 7, 8]
    alone = example(name).render(crops[some], Keys(keys.values[some]), 40)
    torch.testing.assert_close(alone, together[some], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_some_cell_and_gives_floats_from_0_to_1(name: str) -> None:
    crops = crops_of(16)
    seen = example(name).render(crops, keys_of(16), 48)
    assert seen.dtype == torch.float32 and seen.shape == (16, 3, 48, 48)
    assert seen.min() >= 0.0
    assert seen.max() <= 1.0
    assert (seen - crops / 255).abs().max() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_bytes_and_floats_give_the_same_views(name: str) -> None:
    crops = crops_of(6)
    as_floats = example(name).render(crops / 255, keys_of(6), 40)
    torch.testing.assert_close(example(name).render(crops, keys_of(6), 40), as_floats, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_given_crops_stay_as_they_are(name: str) -> None:
    crops = crops_of(6) / 255
    before = crops.clone()
    example(name).render(crops, keys_of(6), 48)
    assert torch.equal(crops, before)


@pytest.mark.parametrize("name", WITH_P)
def test_with_p_0_nothing_changes(name: str) -> None:
    crops = crops_of(6) / 255
    assert torch.equal(example(name, p=0).render(crops, keys_of(6), 48), crops)


@pytest.mark.parametrize("name", WITH_P)
def test_the_share_of_changed_cells_is_p(name: str) -> None:
    crops = crops_of(1, side=24).expand(600, -1, -1, -1)
    seen = example(name, p=0.3).render(crops, keys_of(600), 24)
    share = ((seen - crops / 255).abs().flatten(1).amax(dim=1) > 1e-3).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.075)  # four standard errors


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("grayscale", "color_jitter")])
def test_any_number_of_channels_works(name: str) -> None:
    for channels in (1, 5):
        assert example(name).render(crops_of(3, channels), keys_of(3), 48).shape == (3, channels, 48, 48)


@pytest.mark.parametrize("name", ["grayscale", "color_jitter"])
def test_colour_without_three_channels_is_an_error_that_names_the_alternative(name: str) -> None:
    with pytest.raises(UsageError, match="needs 3 channels, the crops have 4") as caught:
        example(name).render(crops_of(2, 4), keys_of(2), 48)
    assert "channel_" in caught.value.hint


def test_brightness_and_contrast_do_not_need_colour() -> None:
    view = view_of({"name": "color_jitter", "brightness": 0.4, "contrast": 0.4})
    assert view.render(crops_of(2, 5), keys_of(2), 48).shape == (2, 5, 48, 48)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json(name: str) -> None:
    settings: Plugin = example(name).transforms[0]
    changed = json.loads(json.dumps(settings.non_default()))
    assert type(settings).model_validate(changed) == settings


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_description(name: str) -> None:
    assert all(plugins.load(FOLDER, name).Settings.descriptions().values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "affin"}, "there is no 'affin' in transforms"),
        ({"name": "affine", "degree": 20}, "unknown key 'degree'"),
        ({"name": "affine", "degrees": [20, -20]}, r"a pair \[low, high\]"),
        ({"name": "rotate", "degrees": float("inf")}, "must be finite"),
        ({"name": "elastic", "alpha": float("nan")}, "must be finite"),
        ({"name": "affine", "degrees": "20"}, "must be a number or a pair"),
        ({"name": "affine", "translate": 1.5}, "between 0 and 1"),
        ({"name": "color_jitter", "hue": 0.6}, "between -0.5 and 0.5"),
        ({"name": "color_jitter", "brightness": True}, "must be a number or a pair"),
        ({"name": "random_resized_crop", "scale": [1.1, 0.9]}, r"scale must be \[low, high\]"),
        ({"name": "gaussian_blur", "kernel_size": 4}, "must be odd, got 4"),
        ({"name": "defocus", "radius": [3, 1]}, r"a pair \[low, high\]"),
        ({"name": "elastic", "sigma": 0}, "between 0.1 and inf"),
        ({"name": "horizontal_flip", "p": 2}, "less than or equal to 1"),
        ({"name": "resize"}, "is required but not given"),
    ],
)
def test_a_wrong_setting_gives_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        view_of(given)
    assert re.search(message, first_fault(caught.value).message)


@pytest.mark.parametrize(
    "given",
    [
        {"name": "random_crop", "size": 99},
        {"name": "gaussian_blur", "kernel_size": 101},
        {"name": "defocus", "radius": 48.0},
        {"name": "elastic", "sigma": 12.0},
    ],
)
def test_sizes_that_do_not_fit_the_crop_are_a_usage_error(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="px"):
        view_of(given).render(crops_of(2), keys_of(2), 48)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_views_can_be_written_into_a_part_of_a_larger_batch(name: str, memory: torch.memory_format) -> None:
    crops, keys = crops_of(9), keys_of(9)
    batch = torch.full((20, 3, 40, 40), -1.0).contiguous(memory_format=memory)
    seen = example(name).render(crops, keys, 40, out=batch[5:14])
    assert seen.data_ptr() == batch[5:14].data_ptr()
    assert torch.equal(batch[5:14], example(name).render(crops, keys, 40))
    assert (batch[:5] == -1).all() and (batch[14:] == -1).all()


def test_validating_a_view_does_not_load_torch() -> None:
    code = (
        "import sys; from cellssl.config import plugins; from cellssl.learning.view import View, ViewSettings;"
        f"[plugins.load({FOLDER!r}, name).Settings for name in plugins.names({FOLDER!r})];"
        "assert not {'torch', 'pandas', 'skimage', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
