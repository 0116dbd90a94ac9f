"""First weights of a training: published, from a file, from an earlier encoder; fingerprints, errors and the cache."""

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from chain import ENVIRONMENT, Chain, Said, run, say
from misbehaving_server import ServerBehaviour, serving
from safetensors.torch import load_file, save_file
from torchvision.models import ResNet18_Weights

from cellssl.artifacts.store import Store
from cellssl.config import recipe as recipes
from cellssl.engine import weights_cache
from cellssl.engine.build import RunContext
from cellssl.errors import IntegrityError, NetworkError, UsageError
from cellssl.pipeline.execute import make
from cellssl.pipeline.plan import Planner
from cellssl.randomness import torch_seeded
from cellssl.stages.pretrain import initial_weights
from cellssl.stages.pretrain.settings import Settings


@pytest.fixture
def words(chain: Chain, tmp_path: Path) -> list[str]:
    """Return the tiny recipe, and a store of the test's own on top of the shared one."""
    return [str(chain.recipe), "--store", str(tmp_path / "store"), "--store", str(chain.root), "--device", "cpu"]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write torchvision's resnet18, with its classifier, to a file."""
    with torch_seeded("test", "resnet18"):
        theirs = torchvision.models.resnet18(weights=None)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    return path


def pretrain_flags(**settings: str) -> list[str]:
    """Return settings of pretrain as arguments of a command."""
    return [word for name, value in settings.items() for word in ("--set", f"pretrain.{name}={value}")]


def network(name: str, weights: Any) -> str:
    """Return the setting of an encoder that starts from weights."""
    return f'{{ name = "{name}", weights = "{weights}" }}'


DRY = ("--dry-run", "--json")


def planned(words: list[str], **settings: str) -> str:
    """Return the fingerprint that a training would have."""
    rows = json.loads(say("pretrain", *words, *pretrain_flags(**settings), "--dry-run", "--json").out)["would_make"]
    return next(row["fingerprint"] for row in rows if row["stage"] == "pretrain")


def refused(said: Said, code: int, sentence: str, cure: str) -> None:
    assert said.code == code, said.err
    assert said.out == "" and "Traceback" not in said.err
    error, _, hint = said.err[said.err.index("error: ") :].partition("cure: ")
    assert sentence in error and cure in hint, said.err


# Fingerprints.


def test_a_weights_file_counts_by_its_bytes_and_not_by_its_path(words: list[str], resnet: Path, tmp_path: Path) -> None:
    same = shutil.copy(resnet, tmp_path / "elsewhere.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    here, there, other = (
        planned(words, encoder=network("resnet18", path)) for path in (resnet, same, tmp_path / "other.pth")
    )
    published, drawn = planned(words, encoder=network("resnet18", "imagenet")), planned(words, encoder="resnet18")
    assert here == there
    assert len({here, other, published, drawn}) == 4


def test_init_from_counts_an_artifact_by_its_fingerprint_and_a_file_by_its_bytes(
    chain: Chain, words: list[str], tmp_path: Path
) -> None:
    earlier = chain.made("pretrain")
    file = shutil.copy(earlier.file("encoder.safetensors"), tmp_path / "mine.safetensors")
    same = shutil.copy(file, tmp_path / "copy.safetensors")
    named = [
        planned(words, init_from=str(name))
        for name in (earlier.path, earlier.path / "artifact.json", earlier.fingerprint)
    ]
    of_file, of_copy = (planned(words, init_from=str(path)) for path in (file, same))
    weights = planned(words, encoder='{ name = "resnet18", weights = "' + str(file) + '" }')
    assert len(set(named)) == 1 and of_file == of_copy
    assert len({named[0], of_file, weights, chain.made("pretrain").fingerprint}) == 4


def test_a_relative_path_of_weights_is_relative_to_the_recipe_or_to_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.toml").write_text('[pretrain]\nencoder = { name = "resnet18", weights = "w.pth" }\n')
    (tmp_path / "r" / "b.toml").write_text('[pretrain]\ninit_from = "w.pth"\n')
    monkeypatch.chdir(tmp_path)
    assert recipes.load("r/a.toml").settings("pretrain").encoder.weights == tmp_path / "r" / "w.pth"
    assert recipes.load("r/b.toml").settings("pretrain").init_from == tmp_path / "r" / "w.pth"
    shell = recipes.load("r/b.toml", ["pretrain.init_from=w.pth"])
    assert shell.settings("pretrain").init_from == tmp_path / "w.pth"


# Errors.

WRONG: dict[str, tuple[dict[str, str], int, str, str]] = {
    "no file of weights": ({"encoder": network("resnet18", "F/no.pth")}, 2, "no weights file", "encoder.weights"),
    "half a file": ({"encoder": network("resnet18", "F/torn.pth")}, 5, "cannot be read", "torch.save"),
    "of another network": (
        {"encoder": network("vgg11", "RESNET")},
        2,
        "does not fit the encoder vgg11: 16 missing, features.0.weight",
        "with its own names",
    ),
    "no file to start from": ({"init_from": "F/no.safetensors"}, 2, "no weights file", "pretrain.init_from"),
    "nothing there": ({"init_from": "F/no"}, 2, "is neither a pretrain artifact nor a weights file", ".ckpt"),
    "a file of notes": ({"init_from": "F/a.txt"}, 2, "is neither a pretrain artifact nor a weights file", ".ckpt"),
    "a folder of other things": (
        {"init_from": "F"},
        2,
        "is neither a pretrain artifact nor a weights file",
        ".ckpt",
    ),
    "an unknown fingerprint": ({"init_from": "ffffffffffff"}, 2, "no artifact ffffffffffff", "fingerprint"),
    "text with the name of weights": ({"init_from": "F/text.pt"}, 5, "it is no file of torch.save", "state dict"),
    "a file of something else": ({"init_from": "F/a.safetensors"}, 2, "does not fit the encoder small", "own names"),
    "two starts": (
        {"init_from": "RESNET", "encoder": network("resnet18", "RESNET")},
        2,
        "leave one of them out",
        "explain pretrain",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_give_one_sentence_a_hint_and_the_exit_code(
    words: list[str], resnet: Path, tmp_path: Path, case: str
) -> None:
    (tmp_path / "torn.pth").write_bytes(resnet.read_bytes()[:5000])
    (tmp_path / "a.txt").write_text("no weights")
    (tmp_path / "text.pt").write_text("hello")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    settings, code, sentence, cure = WRONG[case]
    there = {
        setting: value.replace("RESNET", str(resnet)).replace("F/", f"{tmp_path}/")
        for setting, value in settings.items()
    }
    there = {setting: str(tmp_path) if value == "F" else value for setting, value in there.items()}
    refused(say("pretrain", *words, *pretrain_flags(**there)), code, sentence, cure)
    assert not list((tmp_path / "store").glob("pretrain/*/artifact.json"))


def test_starting_from_an_encoder_with_other_standardisation_is_an_error(chain: Chain, words: list[str]) -> None:
    earlier = say(
        "pretrain", *words, *pretrain_flags(encoder='{ name = "resnet18", standardise = true }', epochs="0")
    ).line
    said = say("pretrain", *words, *pretrain_flags(encoder="resnet18", init_from=earlier))
    refused(said, 2, "was trained on standardised pixels", "pretrain.encoder.standardise = true")


def test_starting_from_an_artifact_of_another_stage_is_an_error(chain: Chain, words: list[str]) -> None:
    said = say("pretrain", *words, *pretrain_flags(init_from=str(chain.made("split").path)))
    refused(said, 2, "is an artifact of split", "give one of: pretrain")


@pytest.mark.parametrize("setting", ["pretrain.init_from", "embed.model"])
def test_a_model_in_another_store_is_an_error_that_names_the_flags_to_add(
    chain: Chain, tmp_path: Path, setting: str
) -> None:
    model = chain.made("pretrain").path
    own = ["--store", str(tmp_path / "a store")]
    said = say(setting.partition(".")[0], chain.recipe, *own, "--set", f"{setting}={model}")
    refused(said, 2, f"{model} is not in", f"--store '{tmp_path / 'a store'}' --store {chain.root}")


def test_the_cure_for_a_model_that_lies_in_no_store_is_where_to_copy_it(chain: Chain, tmp_path: Path) -> None:
    model = chain.made("pretrain")
    copied = shutil.copytree(model.path, tmp_path / "best model")
    said = say("embed", chain.recipe, "--store", tmp_path / "store", "--set", f"embed.model={copied}")
    refused(said, 2, f"{copied} is not in", f"copy the folder to {tmp_path / 'store/pretrain' / model.fingerprint}")


# Starting from an earlier encoder.


def weights_in_card(folder: str | Path) -> Any:
    """Return what the card of a model says of its first weights."""
    return json.loads((Path(folder) / "artifact.json").read_text())["metrics"].get("weights")


def test_the_card_names_hash_and_licence_of_a_file_and_a_model_made_from_it_keeps_the_licence(
    words: list[str], resnet: Path
) -> None:
    plain = network("resnet18", resnet)
    named = plain.replace(" }", ', licence = "CC BY 4.0" }')
    assert planned(words, encoder=plain) != planned(words, encoder=named), "a licence that is named later is written"
    first = say("pretrain", *words, *pretrain_flags(encoder=named, epochs="0")).line
    digest = sha256(resnet.read_bytes()).hexdigest()
    mine = {"licence": "CC BY 4.0", "licence_source": "encoder.licence of the recipe"}
    assert weights_in_card(first) == {"source": resnet.name, "sha256": digest, **mine}
    assert json.loads((Path(first) / "artifact.json").read_text())["run"]["started_from"] == str(resnet)
    standardised = '{ name = "resnet18", standardise = true }'
    further = say("pretrain", *words, *pretrain_flags(encoder=standardised, init_from=first, epochs="0")).line
    found = weights_in_card(further)
    assert found["source"] == f"pretrain/{Path(first).name}" and found["licence"] == "CC BY 4.0"
    assert found["licence_source"] == "resnet18.pth, where that model began"


def test_a_file_without_a_named_licence_has_an_unknown_one_and_drawn_weights_have_no_entry(
    chain: Chain, words: list[str], resnet: Path
) -> None:
    made = say("pretrain", *words, *pretrain_flags(encoder=network("resnet18", resnet), epochs="0")).line
    assert weights_in_card(made)["licence"] == "not known"
    earlier = chain.made("pretrain").path
    assert weights_in_card(earlier) is None
    further = say("pretrain", *words, *pretrain_flags(init_from=str(earlier), epochs="0")).line
    assert weights_in_card(further)["licence"] == "your own"


def test_a_stopped_training_still_knows_its_first_weights(chain: Chain, tmp_path: Path) -> None:
    stopped = made_in(tmp_path / "stopped", chain)
    for _ in range(5):
        next(stopped)
    stopped.close()
    assert weights_in_card(result_of(made_in(tmp_path / "stopped", chain)).path)["licence"] == "your own"


def test_starting_from_an_encoder_that_sees_channels_in_another_way_is_an_error(words: list[str]) -> None:
    earlier = say(
        "pretrain", *words, *pretrain_flags(encoder='{ name = "resnet18", channels = "each" }', epochs="0")
    ).line
    said = say("pretrain", *words, *pretrain_flags(encoder="resnet18", init_from=earlier))
    refused(said, 2, "gets its channels each, and this one together", 'pretrain.encoder.channels = "each"')


def test_frozen_parts_count_for_a_training_and_not_for_a_baseline(words: list[str], resnet: Path) -> None:
    plain = network("resnet18", resnet)
    frozen = plain.replace(" }", ", frozen_parts = 2 }")
    assert planned(words, encoder=plain) != planned(words, encoder=frozen)
    assert planned(words, encoder=plain, epochs="0") == planned(words, encoder=frozen, epochs="0")
    baselines = [
        [
            row["fingerprint"]
            for row in json.loads(
                say("embed", *words, *pretrain_flags(encoder=one), "--set", "embed.model=imagenet", *DRY).out
            )["would_make"]
        ]
        for one in (plain, frozen)
    ]
    assert baselines[0] == baselines[1]


@pytest.mark.parametrize("given", [{}, {"weights": "imagenet"}])
def test_a_licence_without_a_file_of_weights_is_refused(given: dict[str, str]) -> None:
    settings = Settings.model_validate({"encoder": {"name": "resnet18", "licence": "CC BY 4.0", **given}, "epochs": 0})
    with pytest.raises(UsageError, match="is that of a file of weights, and none is named"):
        settings.check()
    initial_weights.check_licence(settings.encoder, Path("mine.pth"))
    of_file = initial_weights.with_weights_file(settings.encoder, Path("mine.pth"))
    assert of_file.licence == (None if given else "CC BY 4.0")  # type: ignore[attr-defined]
    assert initial_weights.with_published_weights(settings.encoder).licence is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "message", "cure"),
    [
        ({"weights": "imagenet", "frozen_parts": 99}, "has 5 parts, and one must be trained", "set it to 4 or less"),
        (
            {"frozen_parts": 2},
            "would keep weights that are drawn from the seed",
            'pretrain.encoder.weights = "imagenet"',
        ),
    ],
)
def test_frozen_parts_that_cannot_be_are_refused_before_any_work(
    given: dict[str, Any], message: str, cure: str
) -> None:
    encoder, branch = {"name": "resnet18", **given}, {"view": ["invert"]}
    table = {"fetch": {"dataset": "simulated"}, "pretrain": {"encoder": encoder, "branches": {"context": branch}}}
    with pytest.raises(UsageError, match=message) as caught:
        recipes.from_table({"name": "frozen", **table}, Path(), "frozen.toml").settings("pretrain").check()
    assert cure in caught.value.hint
    untrained = {**table["pretrain"], "epochs": 0}
    recipes.from_table({"name": "not", "pretrain": untrained}, Path(), "not.toml").settings("pretrain").check()


def test_check_refuses_more_frozen_parts_than_there_are(chain: Chain, tmp_path: Path) -> None:
    encoder = network("resnet18", "imagenet").replace(" }", ", frozen_parts = 99 }")
    said = say("check", chain.recipe, "--store", tmp_path / "store", *pretrain_flags(encoder=encoder))
    assert said.code == 2 and "encoder.frozen_parts = 99, but resnet18 has 5 parts" in said.err


def result_of(work: Any) -> Any:
    """Run a piece of long work to its end, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def tensors(folder: str | Path, name: str) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(folder) / f"{name}.safetensors"))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_starts_from_exactly_the_earlier_encoder_and_then_changes_it(chain: Chain, words: list[str]) -> None:
    earlier = chain.made("pretrain")
    start = say("pretrain", *words, *pretrain_flags(init_from=str(earlier.path), epochs="0")).line
    learned = tensors(earlier.path, "encoder")
    assert equal(tensors(start, "encoder"), learned) and equal(tensors(start, "momentum_encoder"), learned)
    further = say("pretrain", *words, *pretrain_flags(init_from=str(earlier.path), epochs="1")).line
    assert not equal(tensors(further, "encoder"), learned)
    card = json.loads((Path(further) / "artifact.json").read_text())
    assert card["inputs"]["init_from"] == earlier.fingerprint
    assert card["run"]["started_from"] == str(earlier.path)


@pytest.mark.parametrize("form", ["encoder.safetensors", "mine.pth", "last.ckpt", "among.safetensors"])
def test_the_encoder_of_a_file_is_found_in_every_form(
    chain: Chain, words: list[str], tmp_path: Path, form: str
) -> None:
    learned, path = tensors(chain.made("pretrain").path, "encoder"), tmp_path / form
    match form:
        case "encoder.safetensors":
            save_file(learned, path)
        case "mine.pth":
            torch.save(learned, path)
        case "last.ckpt":
            torch.save({"step": 3, "encoder": learned, "objectives": {}, "optimizer": {}}, path)
        case "among.safetensors":
            among = {f"encoder.{name}": tensor for name, tensor in learned.items()}
            save_file({**among, "head.weight": torch.zeros(2)}, path)
    start = say("pretrain", *words, *pretrain_flags(init_from=str(path), epochs="0")).line
    assert equal(tensors(start, "encoder"), learned)


def made_in(root: Path, chain: Chain) -> Any:
    """Return the work that trains from the chain's encoder, in a store of its own."""
    recipe = recipes.load(str(chain.recipe), [f"pretrain.init_from={chain.made('pretrain').path}"])
    store = Store(root, (chain.root,))
    return make(Planner(recipe, "main", 0, store).plan("pretrain"), RunContext(store, device="cpu"))


def test_a_stopped_and_resumed_training_from_an_earlier_encoder_gives_the_same_bytes(
    chain: Chain, tmp_path: Path
) -> None:
    undisturbed = result_of(made_in(tmp_path / "undisturbed", chain))
    stopped = made_in(tmp_path / "stopped", chain)
    for _ in range(5):
        next(stopped)
    stopped.close()
    again = made_in(tmp_path / "stopped", chain)
    assert "continuing after step" in str(next(again))
    assert result_of(again).card.files == undisturbed.card.files


# Published weights.


class Published:
    """A folder on a server, with torchvision's resnet18 in it, named as torchvision names it."""

    def __init__(self, folder: Path, weights: Path) -> None:
        folder.mkdir()
        digest = sha256(weights.read_bytes()).hexdigest()
        self.folder, self.name = folder, f"resnet18-{digest[:8]}.pth"
        shutil.copy(weights, folder / self.name)


@pytest.fixture
def published(tmp_path: Path, resnet: Path) -> Published:
    return Published(tmp_path / "published", resnet)


def cached(url: str, store: Path, *upstreams: Path) -> Path:
    """Return the path of the cached file of an address."""
    return Path(result_of(weights_cache.fetch_cached(url, RunContext(Store(store, upstreams)))))


def test_published_weights_are_downloaded_once_into_the_store(published: Published, tmp_path: Path) -> None:
    behaviour = ServerBehaviour(published.folder, breaks_after=1_000_000)
    with serving(behaviour) as address:
        first = cached(f"{address}/{published.name}", tmp_path / "store")
        again = cached(f"{address}/{published.name}", tmp_path / "store")
        from_upstream = cached(f"{address}/{published.name}", tmp_path / "mine", tmp_path / "store")
    assert first == again == from_upstream == tmp_path / "store" / "weights" / published.name
    assert [path.name for path in first.parent.iterdir()] == [published.name]
    assert len(behaviour.requests) == 2  # the second continued where the first broke off
    assert first.read_bytes() == (published.folder / published.name).read_bytes()


def test_a_download_whose_bytes_do_not_match_its_name_is_not_kept(published: Published, tmp_path: Path) -> None:
    (published.folder / published.name).write_bytes(b"other weights")
    with (
        serving(ServerBehaviour(published.folder)) as address,
        pytest.raises(IntegrityError, match="whose sha256 is not the one in its name"),
    ):
        cached(f"{address}/{published.name}", tmp_path / "store")
    assert list((tmp_path / "store" / "weights").iterdir()) == []


def test_a_cached_file_that_has_changed_is_not_used(published: Published, tmp_path: Path) -> None:
    with serving(ServerBehaviour(published.folder)) as address:
        cached(f"{address}/{published.name}", tmp_path / "store").write_bytes(b"changed")
        with pytest.raises(IntegrityError, match="does not have the sha256 in its name"):
            cached(f"{address}/{published.name}", tmp_path / "store")


def test_the_error_of_a_failed_download_names_the_place_for_the_file(published: Published, tmp_path: Path) -> None:
    (published.folder / published.name).unlink()
    with (
        serving(ServerBehaviour(published.folder)) as address,
        pytest.raises(NetworkError, match="answered 404") as caught,
    ):
        cached(f"{address}/{published.name}", tmp_path / "store")
    assert f"put the file at {tmp_path / 'store' / 'weights' / published.name}" in caught.value.hint
    assert list((tmp_path / "store" / "weights").iterdir()) == []


def test_imagenet_loads_torchvision_s_own_file_and_the_encoder_does_not_need_it_later(
    words: list[str], published: Published, resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ServerBehaviour(published.folder)) as address:
        monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", f"{address}/{published.name}")
        made = say("pretrain", *words, *pretrain_flags(encoder=network("resnet18", "imagenet"), epochs="0")).line
    theirs = torch.load(resnet, weights_only=True)
    ours = tensors(made, "encoder")
    assert equal(ours, {name: tensor for name, tensor in theirs.items() if not name.startswith("fc.")})
    assert (tmp_path / "store" / "weights" / published.name).is_file()
    assert weights_in_card(made) == {
        "source": f"{address}/{published.name}",
        "sha256": sha256(resnet.read_bytes()).hexdigest(),
        "licence": "BSD-3-Clause (torchvision's code); the weights may have terms that follow from those of ImageNet",
        "licence_source": "torchvision's README",
    }
    shutil.rmtree(tmp_path / "store" / "weights")
    embedded = say("embed", *words, "--set", f"embed.model={made}")
    assert embedded.code == 0, embedded.err


class Hub(SimpleHTTPRequestHandler):
    """The parts of the hub that timm uses: files with their hash and their commit."""

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{sha256(path.read_bytes()).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # the names are http.server's
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Serve timm's test_vit weights; return the address of the hub, and these weights."""
    with torch_seeded("test", "hub"):
        weights = timm.create_model("test_vit").state_dict()
    folder = tmp_path / "hub" / "timm" / "test_vit.r160_in1k" / "resolve" / "main"
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(tmp_path / "hub")))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", weights
    server.shutdown()
    server.server_close()


def at_home(home: Path, **more: str) -> dict[str, Any]:
    """Return the arguments to start a process whose home directory is `home`; timm is imported in that process."""
    home.mkdir(exist_ok=True)
    plain = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("XDG_", "HF_", "MPLCONFIG"))}
    return {"env": {**plain, "HOME": str(home), **more}, "fresh": False}


def test_timm_downloads_its_weights_into_the_store_and_nothing_into_the_home_directory(
    words: list[str], hub: tuple[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    address, weights = hub
    encoder = '{ name = "timm", model = "test_vit", weights = "imagenet" }'
    asked = ["pretrain", *words, *pretrain_flags(encoder=encoder, epochs="0")]
    first = run(*asked, **at_home(tmp_path / "home", HF_ENDPOINT=address) | {"fresh": True}).line
    assert equal(tensors(first, "encoder"), {n: tensor for n, tensor in weights.items() if not n.startswith("head.")})
    (file,) = {path.resolve() for path in (tmp_path / "store" / "weights" / "timm").rglob("model.safetensors")}
    found = weights_in_card(first)
    assert found["sha256"] == sha256(file.read_bytes()).hexdigest() and found["licence"] == "Apache-2.0"
    assert list((tmp_path / "home").rglob("*")) == []
    again = run(*asked, "--force", **at_home(tmp_path / "home", HF_HUB_OFFLINE="1"))
    assert again.line == first


def test_the_doctor_downloads_timm_s_weights_in_advance(
    words: list[str], hub: tuple[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    asked = ["doctor", *words, *pretrain_flags(encoder='{ name = "timm", model = "test_vit", weights = "imagenet" }')]
    before = run(*asked, **at_home(tmp_path / "home", HF_HUB_OFFLINE="1"))
    downloaded = run(*asked, "--download", **at_home(tmp_path / "home", HF_ENDPOINT=hub[0]))
    after = run(*asked, **at_home(tmp_path / "home", HF_HUB_OFFLINE="1"))
    assert [before.code, downloaded.code, after.code] == [2, 0, 0], (before, downloaded, after)
    assert "weights of test_vit of timm are not there" in before.out
    assert list((tmp_path / "home").rglob("*")) == []


def test_timm_weights_that_cannot_be_downloaded_are_a_network_error(words: list[str], tmp_path: Path) -> None:
    encoder = '{ name = "timm", model = "test_vit", weights = "imagenet" }'
    said = run(
        "pretrain",
        *words,
        *pretrain_flags(encoder=encoder, epochs="0"),
        **at_home(tmp_path / "home", HF_HUB_OFFLINE="1"),
    )
    refused(said, 4, "the weights of test_vit cannot be downloaded", "set encoder.weights to the file")
    assert "https://huggingface.co/timm/test_vit.r160_in1k" in said.err
    assert list((tmp_path / "home").rglob("*")) == []
