"""What `cellssl init` writes: settings of a training, and a sample where a plate takes longer than 15 minutes."""

from cellssl.pipeline.training_size import training_size


def test_a_large_plate_on_two_cores_gets_a_small_network_and_a_first_look_that_ends_within_15_minutes() -> None:
    size = training_size(1152, 150, 128, 3, cores=2, gpu=False)
    assert (size.encoder, size.input_px) == ("small", 48)
    assert size.sample_fields is not None and 12 <= size.sample_fields < 200
    assert size.minutes_first <= 15 < 60 * size.hours_whole


def test_a_small_plate_needs_no_sample_and_its_batch_fits_its_cells() -> None:
    size = training_size(8, 20, 40, 1, cores=2, gpu=False)
    assert size.sample_fields is None and size.input_px == 40
    assert 4 * size.batch <= 8 * 20 * 0.6 and size.minutes_first == 60 * size.hours_whole


def test_a_gpu_gets_the_settings_of_the_paper() -> None:
    size = training_size(1152, 150, 196, 3, cores=16, gpu=True)
    assert (size.encoder, size.input_px, size.epochs, size.batch) == ("vgg13", 196, 100, 128)
