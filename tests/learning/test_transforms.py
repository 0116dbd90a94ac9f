"""Every transform agrees with torchvision: equal pixels for equal parameters, and the same distribution of
parameters.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy.ndimage import convolve
from scipy.stats import ks_2samp, kstest
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as oracle

from cellssl.config import plugins
from cellssl.learning.transform import Geometric, Photometric
from cellssl.learning.transforms import color_jitter, random_erasing
from cellssl.learning.view import View, ViewSettings
from cellssl.learning.warp import Warp
from cellssl.randomness import Keys, cell_keys, generator

CELLS = 24
BILINEAR = InterpolationMode.BILINEAR


def keys_of(count: int = CELLS) -> Keys:
    return Keys(torch.from_numpy(cell_keys(f"cell {i}" for i in range(count))))


def noise(side: int = 61, channels: int = 3, cells: int = CELLS) -> Tensor:
    """Return the hardest images: every pixel differs from its neighbours."""
    return torch.from_numpy(generator("test", "noise").random((cells, channels, side, side), dtype="float32"))


def part(name: str, **settings: Any) -> Any:
    return plugins.load("cellssl.learning.transforms", name).Settings(**settings)


def warped(transform: Geometric, crops: Tensor) -> tuple[Tensor, list[dict[str, float]]]:
    """Return the crops after one geometric transform, and its parameters cell by cell."""
    side = crops.shape[-1]
    drawn = transform.draw(keys_of(len(crops)), side)
    return Warp.of(transform, keys_of(len(crops)), side).apply(crops), per_cell(drawn)


def changed(transform: Photometric, crops: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
    """Return the crops after one photometric transform, and its parameters cell by cell."""
    drawn = transform.draw(keys_of(len(crops)), crops.shape[1])
    return transform.apply(crops, drawn), per_cell(drawn)


def per_cell(drawn: dict[str, Tensor]) -> list[dict[str, Any]]:
    lists = {name: values.tolist() for name, values in drawn.items()}
    return [{name: values[i] for name, values in lists.items()} for i in range(len(next(iter(lists.values()))))]


def each(crops: Tensor, drawn: list[dict[str, Any]], change: Callable[..., Tensor]) -> Tensor:
    return torch.stack([change(crop, given) for crop, given in zip(crops, drawn, strict=True)])


def assert_same(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


# Pixels: geometric. fill = None makes torchvision blend the edge once; with a number it blends it twice.


@pytest.mark.parametrize("side", [60, 61])
def test_affine_agrees(side: int) -> None:
    transform = part("affine", degrees=30.0, translate=(0.2, 0.1), scale=(0.7, 1.4), shear=15.0, shear_y=10.0)
    crops = noise(side)
    ours, drawn = warped(transform, crops)

    def affine(crop: Tensor, d: dict[str, float]) -> Tensor:
        shift, shear = [d["shift_x"], d["shift_y"]], [d["shear_x"], d["shear_y"]]
        return oracle.affine(crop, d["angle"], shift, d["scale"], shear, interpolation=BILINEAR, fill=None)

    assert_same(ours, each(crops, drawn, affine))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_rotate_agrees(interpolation: str) -> None:
    crops = noise()
    ours, drawn = warped(part("rotate", degrees=360.0, interpolation=interpolation), crops)
    mode = InterpolationMode(interpolation)
    theirs = each(crops, drawn, lambda crop, d: oracle.rotate(crop, d["angle"], interpolation=mode, fill=None))
    same = (ours - theirs).abs() < 1e-4
    assert same.float().mean() > (0.9995 if interpolation == "nearest" else 0.999999)  # ties may fall either way


def test_fill_agrees_except_at_the_blended_edge() -> None:
    crops = noise()
    ours, drawn = warped(part("rotate", degrees=180.0, fill=0.7), crops)
    theirs = each(crops, drawn, lambda crop, d: oracle.rotate(crop, d["angle"], interpolation=BILINEAR, fill=0.7))
    cover = each(torch.ones_like(crops), drawn, lambda crop, d: oracle.rotate(crop, d["angle"], interpolation=BILINEAR))
    edge = (cover > 1e-4) & (cover < 1 - 1e-4)
    assert_same(ours.masked_fill(edge, 0.0), theirs.masked_fill(edge, 0.0))


def test_flips_agree() -> None:
    for name, flip in (("horizontal_flip", oracle.horizontal_flip), ("vertical_flip", oracle.vertical_flip)):
        crops = noise()
        ours, drawn = warped(part(name), crops)
        assert_same(ours, each(crops, drawn, lambda crop, d, flip=flip: flip(crop) if d["hit"] else crop))


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.1)])
def test_random_resized_crop_agrees_inside_its_window(scale: tuple[float, float]) -> None:
    crops = noise()
    ours, drawn = warped(part("random_resized_crop", scale=scale, size=64), crops)

    def crop_and_resize(crop: Tensor, d: dict[str, float]) -> Tensor:
        window = [round(d[name]) for name in ("top", "left", "height", "width")]
        return oracle.resized_crop(crop, *window, size=[64, 64], interpolation=BILINEAR, antialias=False)

    theirs = each(crops, drawn, crop_and_resize)
    rim = 6  # torchvision does not use pixels next to the window: half a pixel, or up to 64 / 14 pixels when enlarged
    assert_same(ours[..., rim:-rim, rim:-rim], theirs[..., rim:-rim, rim:-rim])


@pytest.mark.parametrize("side", [196, 61, 63])
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_center_crop_agrees_to_the_pixel(side: int, share: float) -> None:
    crops = noise(side, cells=2)
    ours, _ = warped(part("center_crop", side=share), crops)
    assert_same(ours, oracle.center_crop(crops, [round(side * share)]))


def test_center_crop_of_196_px_keeps_98_px() -> None:
    assert part("center_crop").out_side(196) == 98
    assert View((part("center_crop"),)).render(noise(196, cells=2), keys_of(2), 98).shape[-1] == 98


def test_random_crop_and_pad_agree_to_the_pixel() -> None:
    crops = noise()
    ours, drawn = warped(part("random_crop", size=50, padding=4, fill=0.3), crops)
    padded = oracle.pad(crops, [4], fill=0.3)
    theirs = [oracle.crop(crop, d["top"], d["left"], 50, 50) for crop, d in zip(padded, drawn, strict=True)]
    assert_same(ours, torch.stack(theirs))
    assert_same(warped(part("pad", padding=4, fill=0.3), crops)[0], padded)


def test_a_drawn_frame_shrinks_the_image_by_its_size() -> None:
    crops = torch.ones(CELLS, 1, 100, 100)
    ours, drawn = warped(part("pad", padding=(0.1, 0.4)), crops)
    for seen, d in zip(ours, drawn, strict=True):
        assert 0.1 <= d["share"] <= 0.4
        assert seen[0, 50].sum().item() == pytest.approx(100 / (1 + 2 * d["share"]), abs=0.6)


@pytest.mark.parametrize("size", [61, 100, 128, 31])
def test_resize_agrees(size: int) -> None:
    crops = noise()
    theirs = oracle.resize(crops, [size, size], interpolation=BILINEAR, antialias=False)
    assert_same(warped(part("resize", size=size), crops)[0], theirs)


@pytest.mark.parametrize("size", [20, 32, 49, 64])
def test_shrinking_agrees_with_antialiased_resize_on_images_of_cells(size: int) -> None:
    crops = oracle.gaussian_blur(noise(196, cells=4), [31, 31], [5.0, 5.0])
    crops = (crops - crops.amin()) / (crops.amax() - crops.amin())
    theirs = oracle.resize(crops, [size, size], interpolation=BILINEAR, antialias=True)
    ours = View(()).render(crops, keys_of(4), size)
    assert (ours - theirs).abs().mean() < 0.15 * theirs.std()
    assert (ours.mean() - theirs.mean()).abs() < 1e-3


# Pixels: photometric.

SINGLE = (
    ("brightness", oracle.adjust_brightness),
    ("contrast", oracle.adjust_contrast),
    ("saturation", oracle.adjust_saturation),
    ("hue", oracle.adjust_hue),
)


@pytest.mark.parametrize(("name", "change"), SINGLE)
def test_each_colour_operation_agrees(name: str, change: Callable[[Tensor, float], Tensor]) -> None:
    crops = noise()
    ours, drawn = changed(part("color_jitter", **{name: 0.5}), crops)
    assert_same(ours, each(crops, drawn, lambda crop, d: change(crop, d[name])), atol=2e-6)


def test_colour_jitter_agrees_in_every_order() -> None:
    crops = noise(cells=100)
    crops[:50] = crops[:50].mul(4).round().div(4)  # many grays and equal channels
    ours, drawn = changed(part("color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125), crops)
    assert len({tuple(d["order"]) for d in drawn}) == math.factorial(4)

    def in_order(crop: Tensor, d: dict[str, Any]) -> Tensor:
        for number in d["order"]:
            name, change = SINGLE[number]
            crop = change(crop, d[name])
        return crop

    assert_same(ours, each(crops, drawn, in_order), atol=1e-5)


def test_brightness_and_contrast_of_one_channel_agree() -> None:
    crops = noise(channels=1)
    transform = part("color_jitter", brightness=0.4, contrast=0.4)
    ours, drawn = changed(transform, crops)
    first = [oracle.adjust_brightness, oracle.adjust_contrast]

    def in_order(crop: Tensor, d: dict[str, Any]) -> Tensor:
        for number in (number for number in d["order"] if number < 2):
            crop = first[number](crop, d[("brightness", "contrast")[number]])
        return crop

    assert_same(ours, each(crops, drawn, in_order), atol=1e-5)


def test_channel_jitter_agrees_channel_by_channel() -> None:
    crops = noise(channels=4)
    ours, drawn = changed(part("channel_jitter", brightness=0.4, contrast=0.4, gamma=0.4), crops)

    def per_channel(crop: Tensor, d: dict[str, list[float]]) -> Tensor:
        planes = []
        for channel, plane in enumerate(crop.split(1)):
            bright = oracle.adjust_brightness(plane, d["brightness"][channel])
            planes.append(
                oracle.adjust_gamma(oracle.adjust_contrast(bright, d["contrast"][channel]), d["gamma"][channel])
            )
        return torch.cat(planes)

    assert_same(ours, each(crops, drawn, per_channel), atol=1e-5)


def test_invert_and_grayscale_agree() -> None:
    crops = noise()
    ours, drawn = changed(part("invert"), crops)
    assert_same(ours, each(crops, drawn, lambda crop, d: oracle.invert(crop) if d["hit"] else crop), atol=1e-6)
    ours, drawn = changed(part("grayscale", p=0.5), crops)
    gray = each(crops, drawn, lambda crop, d: oracle.rgb_to_grayscale(crop, 3) if d["hit"] else crop)
    assert_same(ours, gray, atol=1e-6)


def test_gaussian_blur_agrees() -> None:
    crops = noise(channels=2)
    ours, drawn = changed(part("gaussian_blur", kernel_size=9, p=0.7), crops)

    def blur(crop: Tensor, d: dict[str, Any]) -> Tensor:
        return oracle.gaussian_blur(crop, [9, 9], [d["sigma"], d["sigma"]]) if d["hit"] else crop

    assert_same(ours, each(crops, drawn, blur), atol=1e-5)


@pytest.mark.parametrize("radius", [0.0, 0.4, 1.0, 1.7, 3.0, 4.6])
def test_defocus_agrees_with_a_disc_of_counted_subpixels(radius: float) -> None:
    crops = noise(33, channels=2, cells=2)
    ours, _ = changed(part("defocus", radius=radius), crops)
    fine, reach = 101, math.ceil(radius + 0.5)
    size = 2 * reach + 1
    rows, columns = np.indices((size * fine, size * fine)) / fine + 0.5 / fine - size / 2
    inside = rows**2 + columns**2 <= max(radius, 0.5) ** 2  # a smaller disc lies within one pixel
    kernel = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    for seen, plane in zip(ours.flatten(0, 1).numpy(), crops.flatten(0, 1).numpy().astype(np.float64), strict=True):
        np.testing.assert_allclose(seen, convolve(plane, kernel / kernel.sum(), mode="mirror"), atol=2e-3)


def test_defocus_keeps_an_even_image_and_draws_its_radius_uniformly() -> None:
    ours, drawn = changed(part("defocus", radius=(1.0, 4.0)), torch.full((200, 1, 16, 16), 0.3))
    assert_same(ours, torch.full_like(ours, 0.3), atol=1e-6)
    assert kstest([d["radius"] for d in drawn], "uniform", (1.0, 3.0)).pvalue > 1e-3


@pytest.mark.parametrize("side", [40, 61])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_elastic_agrees_given_the_same_displacement(side: int, interpolation: str) -> None:
    transform, crops = part("elastic", alpha=(60.0, 90.0), sigma=3.0, interpolation=interpolation), noise(side)
    ours, drawn = changed(transform, crops)
    fields = transform.displacement(torch.tensor([d["key"] for d in drawn]), side)
    mode = InterpolationMode(interpolation)
    theirs = [oracle.elastic(crop, field[None], mode, fill=None) for crop, field in zip(crops, fields, strict=True)]
    same = (ours - torch.stack(theirs)).abs() < 1e-4
    assert same.float().mean() > (0.9995 if interpolation == "nearest" else 0.999999)


def test_elastic_shifts_have_the_same_distribution() -> None:
    side, peer = 64, v2.ElasticTransform(alpha=[50.0, 80.0], sigma=[4.0, 2.0])
    ours = part("elastic", alpha=(50.0, 80.0), sigma=(4.0, 2.0)).displacement(keys_of(40).values, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # torchvision draws from torch's own generator
        theirs = torch.cat([peer.make_params([torch.zeros(1, side, side)])["displacement"] for _ in range(40)])
    for axis in (0, 1):
        apart = slice(4, None, 16)  # so far from each other that they are independent
        assert_same_distribution(
            ours[:, apart, apart, axis].flatten(), theirs[:, apart, apart, axis].flatten().tolist()
        )
        for along in (1, 2):  # and as smooth along rows and columns
            steps = [field[..., axis].diff(dim=along).std().item() for field in (ours, theirs)]
            assert steps[0] == pytest.approx(steps[1], rel=0.05)


def test_the_standard_deviation_of_elastic_shifts_follows_alpha_and_sigma() -> None:
    field = part("elastic", alpha=120.0, sigma=5.0).displacement(keys_of(40).values, 100)
    assert (field * 100 / 2).std().item() == pytest.approx(120 / (12 * 5), rel=0.1)


def test_random_erasing_agrees() -> None:
    crops = noise()
    transform = part("random_erasing", p=0.8, value=0.3)
    drawn = transform.draw(keys_of(), 3)
    boxes = torch.stack(random_erasing.rectangles(drawn, 61), dim=1).long().tolist()
    value = torch.full((3, 1, 1), 0.3)
    theirs = [oracle.erase(crop, *box, v=value) if box[2] else crop for crop, box in zip(crops, boxes, strict=True)]
    assert torch.equal(transform.apply(crops, drawn), torch.stack(theirs))


def test_noise_is_normal_and_independent_in_every_pixel_and_cell() -> None:
    ours, _ = changed(part("gaussian_noise", sigma=0.05, mean=0.01), torch.full((4, 2, 64, 64), 0.5))
    z = (ours - 0.51) / 0.05
    assert kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    rows = z.flatten(1)
    assert (torch.corrcoef(torch.cat([rows, rows.roll(1, 1), rows.roll(64, 1)])) - torch.eye(12)).abs().max() < 0.06


def test_a_dropped_channel_is_zero_and_the_others_stay() -> None:
    crops = noise(channels=5, cells=200)
    ours, drawn = changed(part("channel_drop", p=0.5), crops)
    lost = torch.tensor([d["lost"] for d in drawn])
    assert set(lost.sum(dim=1).tolist()) == {0, 1} and lost.any(dim=0).all()
    assert torch.equal(ours, crops * ~lost[:, :, None, None])


# Parameters: the same distribution as torchvision's (two samples of 2,000, Kolmogorov and Smirnov).

DRAWS = 2000


def torchvision_parameters(transform: Any, side: int = 196) -> list[dict[str, Any]]:
    image = torch.zeros(3, side, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # torchvision draws from torch's own generator
        return [transform.make_params([image]) for _ in range(DRAWS)]


def assert_same_distribution(ours: Tensor, theirs: list[float]) -> None:
    assert ks_2samp(ours.double().numpy(), np.array(theirs, dtype=float)).pvalue > 1e-3


def test_affine_parameters_have_the_same_distribution() -> None:
    ours = part("affine", degrees=20.0, translate=(0.1, 0.05), scale=(0.8, 1.1), shear=10.0).draw(keys_of(DRAWS), 196)
    theirs = torchvision_parameters(v2.RandomAffine(20, (0.1, 0.05), (0.8, 1.1), 10))
    assert_same_distribution(ours["angle"], [d["angle"] for d in theirs])
    assert_same_distribution(ours["scale"], [d["scale"] for d in theirs])
    assert_same_distribution(ours["shear_x"], [d["shear"][0] for d in theirs])
    for i, name in enumerate(("shift_x", "shift_y")):
        assert_same_distribution(ours[name], [d["translate"][i] for d in theirs])


@pytest.mark.parametrize(("degrees", "peer"), [(360.0, 360), ((-10.0, 90.0), (-10, 90))])
def test_rotations_have_the_same_distribution(degrees: Any, peer: Any) -> None:
    ours = part("rotate", degrees=degrees).draw(keys_of(DRAWS), 196)
    assert_same_distribution(ours["angle"], [d["angle"] for d in torchvision_parameters(v2.RandomRotation(peer))])


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.1), (3 / 4, 4 / 3)), ((0.5, 1.5), (1.5, 2.0))]
)
def test_windows_have_the_same_distribution(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    ours = part("random_resized_crop", scale=scale, ratio=ratio).draw(keys_of(DRAWS), 196)
    theirs = torchvision_parameters(v2.RandomResizedCrop(196, scale=scale, ratio=ratio))
    for name in ("width", "height", "left", "top"):
        assert_same_distribution(ours[name], [d[name] for d in theirs])


def test_with_a_scale_of_0_9_to_1_1_a_third_of_the_windows_is_the_whole_image() -> None:
    drawn = part("random_resized_crop", scale=(0.9, 1.1)).draw(keys_of(5000), 196)
    whole = ((drawn["width"] == 196) & (drawn["height"] == 196)).float().mean().item()
    assert whole == pytest.approx(0.36, abs=0.03)


def test_with_pad_the_window_areas_are_uniform_over_the_scale() -> None:
    drawn = part("random_resized_crop", scale=(0.5, 2.0), beyond="pad").draw(keys_of(5000), 196)
    area = drawn["width"] * drawn["height"] / 196**2
    assert kstest(area.numpy(), "uniform", (0.5, 1.5)).pvalue > 1e-3
    assert (drawn["left"] >= torch.minimum(196 - drawn["width"], torch.zeros(5000))).all()
    assert (drawn["left"] <= torch.maximum(196 - drawn["width"], torch.zeros(5000))).all()


def test_colour_parameters_have_the_same_distribution() -> None:
    settings = {"brightness": 0.4, "contrast": (0.5, 0.9), "saturation": 1.2, "hue": 0.125}
    ours = part("color_jitter", **settings).draw(keys_of(DRAWS), 3)
    theirs = torchvision_parameters(v2.ColorJitter(**settings))
    for name in settings:
        assert_same_distribution(ours[name], [d[f"{name}_factor"] for d in theirs])
    orders = torch.tensor([[int(number) for number in d["fn_idx"]] for d in theirs])
    for place in range(4):
        counts = [torch.bincount(order[:, place], minlength=4) for order in (ours["order"], orders)]
        assert ((counts[0] - counts[1]).abs() < 130).all()  # five standard deviations


def test_erased_rectangles_have_the_same_distribution() -> None:
    ours = part("random_erasing", p=1.0, scale=(0.02, 0.6)).draw(keys_of(DRAWS), 3)
    theirs = torchvision_parameters(v2.RandomErasing(p=1.0, scale=(0.02, 0.6)))
    boxes = random_erasing.rectangles(ours, 196)
    erased = boxes[2] > 0
    for values, name in zip(boxes, "ijhw", strict=True):
        assert_same_distribution(values[erased], [d[name] for d in theirs if d["v"] is not None])


def test_blur_widths_have_the_same_distribution() -> None:
    ours = part("gaussian_blur").draw(keys_of(DRAWS), 3)
    assert_same_distribution(ours["sigma"], [d["sigma"][0] for d in torchvision_parameters(v2.GaussianBlur(13))])


# Views.


def test_another_transform_does_not_change_the_draws_of_the_others() -> None:
    both = TypeAdapter(ViewSettings).validate_python(
        ({"name": "rotate"}, {"name": "color_jitter", "hue": 0.1}, {"name": "rotate"})
    )
    few, many = View(both[1:2]), View((part("horizontal_flip"), *both))
    (jitter,) = few.steps(keys_of(), 3, 32, 32)
    hues = [step.drawn["hue"] for step in many.steps(keys_of(), 3, 32, 32) if hasattr(step, "drawn")]
    assert len(hues) == 1 and torch.equal(hues[0], jitter.drawn["hue"])


def test_the_same_transform_twice_draws_twice() -> None:
    first, _, second = View((part("rotate"), part("invert"), part("rotate"))).steps(keys_of(), 3, 32, 32)
    assert not torch.equal(first.matrix, second.matrix)


def test_geometry_on_both_sides_of_a_colour_change_is_two_warps() -> None:
    names = [
        type(step).__name__
        for step in View((part("rotate"), part("invert"), part("rotate"))).steps(keys_of(), 3, 32, 16)
    ]
    assert names == ["Warp", "ViewStep", "Warp"]


def test_an_empty_view_of_the_same_side_is_the_crop() -> None:
    crops = (noise(cells=3) * 255).to(torch.uint8)
    assert torch.allclose(View().render(crops, keys_of(3), 61), crops / 255, atol=1e-7)


def test_the_number_of_threads_changes_no_bit() -> None:
    view = View((part("color_jitter", contrast=0.4, hue=0.1), part("affine", degrees=20.0)))
    threads = torch.get_num_threads()
    seen = []
    for count in (1, 3):
        torch.set_num_threads(count)
        seen.append(view.render(noise(196), keys_of(), 128))
    torch.set_num_threads(threads)
    assert torch.equal(*seen)


@pytest.mark.parametrize("turn", [-0.5, -0.4, -1 / 3, -0.2, -1 / 6, 0.1, 1 / 6, 0.3, 1 / 3, 0.49, 0.5])
def test_every_shift_of_the_hue_agrees(turn: float) -> None:
    crops = noise()
    crops[:12] = crops[:12].mul(3).round().div(3)  # grays and equal channels
    theirs = oracle.adjust_hue(crops, turn)
    for dtype in (torch.float32, torch.float64):
        turns = torch.full((CELLS, 1, 1, 1), turn, dtype=dtype)
        assert_same(color_jitter.adjust_hue(crops.clone(), turns), theirs, atol=2e-6)


JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.5, "p": 0.8}


def test_position_by_position_as_on_a_gpu_equals_run_by_run() -> None:
    crops, jitter = noise(cells=60), part("color_jitter", **JITTER)
    drawn = jitter.draw(keys_of(60), 3)
    by_run = color_jitter.run_by_run(crops.clone(), drawn)
    assert_same(by_run, color_jitter.position_by_position(crops.clone(), drawn), atol=2e-6)


def test_cells_that_get_the_same_operations_in_the_same_order_are_alike() -> None:
    drawn = part("color_jitter", **JITTER).draw(keys_of(500), 3)
    numbers = part("color_jitter", **JITTER).alike(drawn).tolist()
    unchanged = [number for number, hue in zip(numbers, drawn["hue"].tolist(), strict=True) if hue == 0]
    assert len(set(numbers)) == math.factorial(4) + 1 and set(unchanged) == {0}
    for number, order in zip(numbers, drawn["order"].tolist(), strict=True):
        assert color_jitter.operations_of(number) == (tuple(order) if number else ())
    two = part("color_jitter", brightness=0.4, hue=0.1)
    assert {color_jitter.operations_of(n) for n in two.alike(two.draw(keys_of(99), 3)).tolist()} == {(0, 3), (3, 0)}


@pytest.mark.parametrize("side", [17, 68])
def test_colour_changes_of_several_crops_at_once_have_the_bits_of_one_crop_at_a_time(side: int) -> None:
    crops, jitter = noise(side, cells=90), part("color_jitter", **JITTER)
    view = View((jitter, part("rotate", degrees=180.0)))
    one_by_one = [view.render(crops[[cell]], Keys(keys_of(90).values[[cell]]), side) for cell in range(90)]
    assert torch.equal(view.render(crops, keys_of(90), side), torch.cat(one_by_one))
