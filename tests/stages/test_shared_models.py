"""A model that another lab shared is read wherever it lies, and counts as the artifact that it was made of."""

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chain import ENVIRONMENT, Chain, run, say, start
from hub_server import HubBehaviour, hub
from misbehaving_server import Reply, alter_first, flips_a_bit, reset
from safetensors.numpy import load_file, save_file

from cellssl.artifacts.card import Card, FileEntry, read_card
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.hub_names import hub_name
from cellssl.artifacts.shared_models import model_to_use
from cellssl.artifacts.store import Store
from cellssl.datasets.transfer.threads import result_of
from cellssl.engine.build import RunContext
from cellssl.engine.hub import fetch_model
from cellssl.errors import IntegrityError, UsageError
from cellssl.stages.embed.settings import Settings

MODEL = "some-lab/nuclei-small"


def share(chain: Chain, folder: Path) -> Path:
    """Share the model of the chain as a folder, with what else such a folder may hold."""
    model = chain.made("pretrain")
    folder.mkdir(parents=True)
    shutil.copy(model.path / "encoder.safetensors", folder / "model.safetensors")
    (folder / "load_model.py").write_text("raise SystemExit('cellssl must not run this')")
    (folder / "README.md").write_text("# A model")
    list_files(folder, replace(model.card, extras=("README.md",), run={}))
    return folder


def list_files(folder: Path, card: Card) -> None:
    """Write the card of a shared folder, which lists the files as they are now."""
    files = {name: folder / name for name in ("load_model.py", "model.safetensors")}
    entries = {name: FileEntry(file.stat().st_size, sha256_of(file)) for name, file in files.items()}
    replace(card, files=entries).write(folder)


def with_other_weights(shared: Path, folder: Path) -> Path:
    """Return a folder whose card claims the same fingerprint, with other weights."""
    shutil.copytree(shared, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: np.zeros_like(one) for name, one in weights.items()}, folder / "model.safetensors")
    list_files(folder, read_card(folder))
    return folder


@pytest.fixture
def shared(chain: Chain, tmp_path: Path) -> Path:
    return share(chain, tmp_path / "from-a-friend" / "nuclei-small")


@pytest.fixture
def elsewhere(chain: Chain, tmp_path: Path) -> Chain:
    """The cells of the chain in a store without its model."""
    return Chain(chain.recipe, chain.copy_cells(tmp_path / "store"))


def with_model(model: object, *more: str) -> list[str]:
    return [word for setting in (f"embed.model={model}", *more) for word in ("--set", setting)]


def test_vectors_of_a_shared_model_are_those_of_its_artifact(chain: Chain, elsewhere: Chain, shared: Path) -> None:
    made = Path(elsewhere.say("embed", *with_model(shared)).line)
    own = Path(chain.say("embed", *with_model(chain.made("pretrain").path)).line)
    assert made.name == own.name
    assert (made / "embeddings.parquet").read_bytes() == (own / "embeddings.parquet").read_bytes()
    shutil.rmtree(shared)  # the store has kept what results need
    kept = made.parents[1] / "weights" / "shared" / read_card(made).inputs["model"]
    assert sorted(file.name for file in kept.iterdir()) == ["artifact.json", "model.safetensors"]


@pytest.mark.soak  # 25 s: a whole report
def test_a_report_says_what_is_not_known_of_a_shared_model(chain: Chain, shared: Path, tmp_path: Path) -> None:
    root = chain.copy_cells(tmp_path / "store")
    for stage in ("embed", "cluster"):
        shutil.copytree(chain.root / stage, root / stage)
    model = chain.made("pretrain").fingerprint
    shutil.copytree(shared, root / "weights" / "shared" / model)
    page = Path(say("report", chain.made("cluster").path.relative_to(chain.root), "--store", root).line)
    assert "a shared model comes without the log of its training" in (page / "report.html").read_text()


ASKED = {
    'embed.layer="projector"': "has no projectors",
    'embed.network="momentum"': "has no momentum encoder",
}


@pytest.mark.parametrize("setting", ASKED)
def test_what_a_shared_folder_lacks_is_refused_in_the_plan(elsewhere: Chain, shared: Path, setting: str) -> None:
    said = elsewhere.say("status", *with_model(shared, setting))
    assert said.code == 2 and ASKED[setting] in said.err and "cure: leave embed." in said.err


def test_other_weights_under_the_fingerprint_of_a_model_of_the_store_are_refused(
    chain: Chain, shared: Path, tmp_path: Path
) -> None:
    stranger = with_other_weights(shared, tmp_path / "stranger")
    for words in (("status", *with_model(stranger)), ("embed", "--set", "embed.blocks=[]", *with_model(stranger))):
        said = chain.say(*words)
        assert said.code == 5 and "and other weights" in said.err and "another --store" in said.err
    assert chain.say("status", *with_model(shared)).code == 0


def with_other_card(shared: Path, folder: Path, **metrics: object) -> Path:
    """Return a folder of the same weights whose card says something else of the cells."""
    shutil.copytree(shared, folder)
    card = read_card(folder)
    list_files(folder, replace(card, metrics={**card.metrics, **metrics}))
    return folder


def test_the_same_weights_with_another_card_are_refused(
    chain: Chain, elsewhere: Chain, shared: Path, tmp_path: Path
) -> None:
    stranger = with_other_card(shared, tmp_path / "stranger", input_px=40)
    for known in (chain, elsewhere):
        assert known.say("embed", *with_model(shared)).code == 0
        said = known.say("status", *with_model(stranger))
        assert said.code == 5 and "another card (it differs in metrics.input_px)" in said.err, said.err
    store = Store(elsewhere.root)
    shutil.rmtree(elsewhere.root / "embed")
    with pytest.raises(IntegrityError) as caught:
        model_to_use(store.resolve(stranger, ("pretrain",)), store)
    assert "nothing there stands on the other one, remove" in caught.value.hint


def test_a_path_in_a_card_counts_by_its_last_part(shared: Path, tmp_path: Path) -> None:
    card = read_card(shared)
    kept, store = tmp_path / "store" / "weights" / "shared" / card.fingerprint, Store(tmp_path / "store")
    shutil.copytree(shared, kept)
    list_files(kept, replace(card, section={**card.section, "init_from": "/home/ann/theirs.pth"}))
    for name, is_same in (("theirs.pth", True), ("mine.pth", False)):
        list_files(shared, replace(card, section={**card.section, "init_from": name}))
        with nullcontext() if is_same else pytest.raises(IntegrityError, match=r"section\.init_from"):
            model_to_use(store.resolve(shared, ("pretrain",)), store)


@pytest.mark.parametrize("fault", ["header", "channels"])
def test_nothing_is_kept_of_a_folder_whose_weights_do_not_fit(
    elsewhere: Chain, shared: Path, tmp_path: Path, fault: str
) -> None:
    true = shutil.copytree(shared, tmp_path / "true")
    if fault == "header":
        (shared / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    card = read_card(shared)
    changed = {} if fault == "header" else {"encoder": {**card.section["encoder"], "widths": [8, 24]}}
    list_files(shared, replace(card, section={**card.section, **changed}))
    said = elsewhere.say("embed", *with_model(shared))
    assert said.code == 5 and f"cure: get the folder {shared} again from where it came" in said.err, said.err
    assert not list(elsewhere.root.glob("weights/shared/*/*"))
    assert elsewhere.say("status", *with_model(true)).code == 0


def test_verify_reads_the_model_that_the_store_keeps(elsewhere: Chain, shared: Path) -> None:
    made = elsewhere.say("embed", *with_model(shared)).line
    (kept,) = elsewhere.root.glob("weights/shared/*/model.safetensors")
    assert say("verify", made, "--store", elsewhere.root).code == 0
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x01")
    said = say("verify", made, "--store", elsewhere.root)
    assert said.code == 5 and f"remove {kept.parent}, and get that model again" in said.err + said.out


def test_a_training_does_not_take_the_name_of_a_shared_model(elsewhere: Chain, shared: Path) -> None:
    elsewhere.say("embed", *with_model(shared))
    said = elsewhere.say("pretrain")
    assert said.code == 2 and "has the fingerprint of this training" in said.err


def test_bytes_that_differ_from_the_card_of_a_shared_folder_are_exit_5(elsewhere: Chain, shared: Path) -> None:
    weights = shared / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = elsewhere.say("embed", *with_model(shared))
    assert said.code == 5 and "does not have the bytes that its card lists" in said.err
    shutil.move(weights, shared.parent / "outside")
    weights.symlink_to(shared.parent / "outside")
    said = elsewhere.say("embed", *with_model(shared))
    assert "is a link out of its folder" in said.err and "remove" not in said.err
    (shared / "artifact.json").write_text("{}")
    assert f"get the folder {shared} again" in elsewhere.say("status", *with_model(shared)).err


@pytest.mark.parametrize("setting", ["embed.model", "pretrain.init_from"])
def test_a_folder_of_another_program_gets_one_sentence(elsewhere: Chain, tmp_path: Path, setting: str) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    said = elsewhere.say("status", "--set", f"{setting}={tmp_path / 'bert'}")
    assert said.code == 2 and "is a model of another program" in said.err and "cellssl export" in said.err


@pytest.mark.parametrize(
    "name", ["hf:/a/b", "HF://a/b", "hf://a", "hf://a/../b", "hf://a/b@../c", "hf://a/b c", "hf://a/b/c"]
)
@pytest.mark.parametrize("setting", ["embed.model", "pretrain.init_from"])
def test_a_name_that_is_none_of_a_hub_is_refused_with_the_form(elsewhere: Chain, setting: str, name: str) -> None:
    said = elsewhere.say("status", "--set", f"{setting}={name}")
    assert said.code == 2 and "is not of the form hf://OWNER/NAME" in said.err, said.err


def test_a_name_on_a_hub_is_never_a_file_of_weights() -> None:
    settings = Settings.model_validate({"model": "hf://a/b.pth"})
    assert settings.artifact_references() == {"model": ("hf://a/b.pth", ("pretrain",))}
    assert [block.called() for block in Settings.model_validate({"blocks": ["hf://a/b@v1"]}).blocks] == ["b"]


@pytest.fixture
def served(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubBehaviour]:
    """A hub that the library asks in this process."""
    from huggingface_hub import constants

    behaviour = HubBehaviour(tmp_path / "hub")
    behaviour.publish(MODEL, shared)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub(behaviour) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield behaviour


def fetch(root: Path, revision: str = "") -> Path:
    return result_of(fetch_model(hub_name(f"hf://{MODEL}{revision}"), RunContext(Store(root))))


def test_a_model_of_a_hub_is_downloaded_once_and_stays_at_its_commit_until_doctor_takes_the_newest(
    chain: Chain, elsewhere: Chain, shared: Path, served: HubBehaviour
) -> None:
    name = f"hf://{MODEL}"
    for command in ("status", "run"):
        said = elsewhere.say(command, *with_model(name), *(["--dry-run"] if command == "run" else []))
        assert said.code == 2 and f"{name} is not downloaded" in said.err and "--download" in said.err
    assert not served.requests
    first = served.newest[MODEL]
    made = read_card(Path(elsewhere.say("embed", *with_model(name)).line))
    assert made.run["model"] == f"{name}@{first}"
    assert made.inputs["model"] == chain.made("pretrain").fingerprint
    folder = elsewhere.root / "weights" / "huggingface" / MODEL.replace("/", "--") / first
    assert sorted(file.name for file in folder.iterdir()) == ["artifact.json", "model.safetensors"]
    assert {path.rpartition("/")[2] for path, _ in served.requests if "/resolve/" in path} == {
        file.name for file in folder.iterdir()
    }
    (shared / "LICENSE").write_text("a new commit")
    second, asked = served.publish(MODEL, shared), len(served.requests)
    assert elsewhere.say("status", *with_model(name)).code == 0 and len(served.requests) == asked
    said = elsewhere.say("doctor", *with_model(name), "--download")
    assert f"downloading {name}@{second}" in said.err
    assert "hf_secret" not in said.err + said.out + "".join(one.read_text() for one in folder.parent.rglob("*.json"))
    assert served.tokens == {"Bearer hf_secret"}


def test_first_weights_and_blocks_from_a_hub_are_those_of_the_folder(
    elsewhere: Chain, shared: Path, served: HubBehaviour
) -> None:
    training, embedding = [], []
    for model in (f"hf://{MODEL}", shared):
        first_weights = ("--set", f"pretrain.init_from={model}", "--set", "pretrain.epochs=1")
        training.append(elsewhere.say("pretrain", *first_weights).line)
        blocks = ("--set", f"embed.blocks=['{model}', 'intensities']", "--set", "arm.intensities.embed.blocks=[]")
        embedding.append(elsewhere.say("embed", *blocks).line)
    assert len(set(training)) == len(set(embedding)) == 1
    assert Path(training[0]).is_dir() and Path(embedding[0]).is_dir()


def test_a_newest_commit_with_other_weights_leaves_the_former_one_in_use(
    elsewhere: Chain, shared: Path, served: HubBehaviour, tmp_path: Path
) -> None:
    name, first = f"hf://{MODEL}", served.newest[MODEL]
    assert elsewhere.say("embed", *with_model(name)).code == 0
    second = served.publish(MODEL, with_other_weights(shared, tmp_path / "retrained"))
    said = elsewhere.say("doctor", *with_model(name), "--download")
    assert said.code == 5 and f"{name}@{second} has the fingerprint" in said.err and f"name {name}@{first}" in said.err
    assert not any(second in path and path.endswith(".safetensors") for path, _ in served.requests)
    for known in (name, f"{name}@{first}"):
        assert elsewhere.say("status", *with_model(known)).code == 0
    assert [one.name for one in (elsewhere.root / "weights" / "huggingface").glob("*/*") if one.is_dir()] == [first]


def test_a_commit_that_nothing_stands_on_stands_in_no_one_s_way(
    shared: Path, served: HubBehaviour, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    fetch(store.root)
    stranger = with_other_weights(shared, tmp_path / "stranger")
    for folder in (stranger, shared):
        assert model_to_use(store.resolve(folder, ("pretrain",)), store).path == folder


def test_a_download_goes_on_where_it_broke_off_and_a_busy_hub_is_asked_again(
    served: HubBehaviour, tmp_path: Path
) -> None:
    served.alter = alter_first(1, reset, lambda reply: reply.path.endswith(".safetensors"))
    served.busy = 1
    folder = fetch(tmp_path / "store")
    (start,) = (asked for path, asked in served.requests if path.endswith(".safetensors") and asked)
    assert start != "bytes=0-" and (folder / "model.safetensors").is_file()


def test_damaged_bytes_of_a_hub_are_removed_and_named(served: HubBehaviour, tmp_path: Path) -> None:
    served.alter = lambda reply: flips_a_bit(1)(reply) if reply.path.endswith(".safetensors") else None
    with pytest.raises(IntegrityError, match="does not have the bytes that its card lists; it was removed"):
        fetch(tmp_path / "store")
    assert not list((tmp_path / "store").rglob("model.safetensors*"))
    served.alter = None
    assert fetch(tmp_path / "store").is_dir()


def test_what_a_hub_refuses_is_said_with_its_cure(served: HubBehaviour, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no revision v9"):
        fetch(tmp_path, "@v9")
    with pytest.raises(UsageError, match="or it is private") as error:
        served.token = "another"
        fetch(tmp_path)
    assert "HF_TOKEN" in error.value.hint
    served.token = None
    (served.folder / MODEL / served.newest[MODEL] / "artifact.json").unlink()
    with pytest.raises(UsageError, match="is a model of another program"):
        fetch(tmp_path)


@pytest.mark.soak  # 60 s: every process loads the library, and the chain is embedded twice
def test_a_killed_download_is_resumed_and_two_at_once_download_once(
    elsewhere: Chain, shared: Path, served: HubBehaviour, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    home = tmp_path / "home"
    home.mkdir()
    environment = {**ENVIRONMENT, "HF_ENDPOINT": constants.ENDPOINT, "HOME": str(home)}
    words = ("doctor", elsewhere.recipe, "--store", elsewhere.root, *with_model(f"hf://{MODEL}"), "--download")

    def stall(reply: Reply) -> None:
        reply.breaks_after, reply.stalls = len(reply.body) // 2, True

    served.alter = alter_first(1, stall, lambda reply: reply.path.endswith(".safetensors"))
    process = start(*words, env=environment)
    while not any(part.stat().st_size for part in elsewhere.root.rglob("*.part")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    both = [start(*words, env=environment) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    ranges = [asked for path, asked in served.requests if path.endswith(".safetensors")]
    assert len([asked for asked in ranges if asked]) == 1
    assert not list(home.rglob("*huggingface*"))


@pytest.mark.soak  # 30 s
def test_a_hub_that_cannot_be_reached_and_one_that_is_forbidden(elsewhere: Chain) -> None:
    for variables, code, words in (
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, 4, "cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, 2, "HF_HUB_OFFLINE forbids it"),
    ):
        flags = ("--store", elsewhere.root, *with_model(f"hf://{MODEL}"))
        said = run("embed", elsewhere.recipe, *flags, env={**ENVIRONMENT, **variables})
        assert said.code == code and words in said.err, said.err
