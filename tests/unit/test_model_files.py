"""Broken, hostile and damaged files of models: one line that names the user's file, in no time."""

import json
import os
import struct
import time
from pathlib import Path

import pytest
import torch
from model_kit import make_language_model, path_family
from safetensors.torch import load_file, save_file
from test_model_prepare import gguf_family, write_tiny_gguf

from hardscale.artifacts.manifest import read_manifest
from hardscale.errors import ModelError
from hardscale.models.check import check_source
from hardscale.models.finite import check_finite
from hardscale.models.gguf_header import read_header
from hardscale.models.load import read_config, read_tokenizer
from hardscale.models.prepare import prepare_model
from hardscale.models.safetensors_header import read_safetensors_header
from hardscale.settings.models import FamilySettings


def put(name, content):
    def change(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def config(**changes):
    def change(folder):
        path = folder / "config.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, **changes}))

    return change


def instead(name, make):
    """Something that is no file, under a file's name."""

    def change(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


def tensors(change):
    def changed(folder):
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, {"format": "pt"})

    return changed


def header(change):
    """The same bytes of tensors under another header."""

    def changed(folder):
        file = folder / "model.safetensors"
        data = file.read_bytes()
        (n,) = struct.unpack("<Q", data[:8])
        text = change(json.loads(data[8 : 8 + n]))
        text = (text if isinstance(text, bytes) else json.dumps(text).encode()).ljust(8)
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n :])

    return changed


def first(values, **changes):
    name = next(name for name in values if name != "__metadata__")
    return {**values, name: {**values[name], **changes}}


def index(**weight_map):
    return put("model.safetensors.index.json", json.dumps({"weight_map": weight_map}))


def loop(path):
    path.symlink_to(path.name)


FOLDERS = {
    "an empty config": (put("config.json", ""), r"config\.json: not readable as JSON: empty"),
    "UTF-16": (put("config.json", "{}".encode("utf-16")), r"config\.json: found UTF-16 text"),
    "a NUL": (put("config.json", b'{"a": "\0"}'), r"config\.json: found a NUL"),
    "latin-1": (put("config.json", '{"a": "é"}'.encode("latin-1")), "not UTF-8"),
    "a list": (put("config.json", "[1]"), r"config\.json: expected a JSON object, found list"),
    "deep": (put("config.json", '{"a":' * 9000 + "1" + "}" * 9000), "nested deeper than 100"),
    "deep within reach of Python": (put("config.json", '{"a":' * 300 + "1" + "}" * 300), "nested deeper than 100"),
    "many digits": (put("config.json", '{"a": ' + "9" * 9999 + "}"), "a number of too many digits"),
    "huge": (put("config.json", b"{" + b" " * 17_000_000 + b"}"), "found 17,000,002 bytes"),
    "no model_type": (put("config.json", "{}"), "no model_type"),
    "a model_type that is a list": (config(model_type=["llama"]), "model_type: found a list"),
    "a model_type of controls": (config(model_type="\x1b[31mllama\n"), "model_type: found a str that names none"),
    "text_config that is none": (config(text_config=7), "text_config: found int, allowed is a mapping"),
    "a text for a number": (config(vocab_size="many"), "vocab_size: found a str, allowed are whole numbers"),
    "a fraction": (config(hidden_size=16.5), "hidden_size: found a float"),
    "a truth": (config(num_hidden_layers=True), "num_hidden_layers: found a bool"),
    "none of them": (config(num_attention_heads=0), "num_attention_heads: found 0"),
    "less than none": (config(intermediate_size=-5), "intermediate_size: found -5"),
    "layers without end": (config(num_hidden_layers=10**9), "num_hidden_layers: found 1,000,000,000"),
    "width without end": (config(hidden_size=10**12), "hidden_size: found 1,000,000,000,000"),
    "digits without end": (config(vocab_size=10**400), "vocab_size: found a number of many digits"),
    "more layers than weights": (config(num_hidden_layers=9), "the weights have 2 blocks and config.json says 9"),
    "fewer layers than weights": (config(num_hidden_layers=1), "the weights have 2 blocks and config.json says 1"),
    "another vocabulary": (config(vocab_size=777), r"embed_tokens\.weight has \d+ rows and config.json says 777"),
    "config is a pipe": (instead("config.json", os.mkfifo), r"config\.json: found a named pipe"),
    "config is a folder": (instead("config.json", os.mkdir), r"config\.json: found a folder"),
    "config is a device": (
        instead("config.json", lambda p: p.symlink_to("/dev/zero")),
        r"config\.json: found a device",
    ),
    "config is a loop of links": (instead("config.json", loop), r"config\.json: .*cannot be read"),
    "weights are a pipe": (instead("model.safetensors", os.mkfifo), r"model\.safetensors: found a named pipe"),
    "weights are a device": (instead("model.safetensors", lambda p: p.symlink_to("/dev/zero")), "found a device"),
    "weights are a loop": (instead("model.safetensors", loop), r"model\.safetensors: .*cannot be read"),
    "tokenizer is a pipe": (instead("tokenizer.json", os.mkfifo), r"tokenizer\.json: found a named pipe"),
    "tokenizer's settings are a device": (
        instead("tokenizer_config.json", lambda p: p.symlink_to("/dev/random")),
        r"tokenizer_config\.json: found a device",
    ),
    "an empty tokenizer": (put("tokenizer.json", ""), r"tokenizer\.json: empty"),
    "a tokenizer in UTF-16": (put("tokenizer.json", "{}".encode("utf-16")), r"tokenizer\.json: found UTF-16"),
    "a deep tokenizer": (put("tokenizer.json", "[" * 5000 + "]" * 5000), "nested deeper than 100"),
    "a tokenizer that is a list": (put("tokenizer.json", "[]"), r"tokenizer\.json: expected a JSON object"),
    "half a tokenizer": (put("tokenizer.json", '{"model": {'), r"tokenizer\.json: not readable as JSON"),
    "settings that are a list": (put("tokenizer_config.json", "[]"), r"tokenizer_config\.json: expected a JSON object"),
    "generation settings": (put("generation_config.json", "{"), r"generation_config\.json: not readable as JSON"),
    "special tokens": (put("special_tokens_map.json", "3"), r"special_tokens_map\.json: expected a JSON object"),
    "an index that is a list": (put("model.safetensors.index.json", "[]"), "expected a JSON object, found list"),
    "an index of nothing": (index(), "weight_map must map tensors"),
    "an index of numbers": (index(a=3), "weight_map must map tensors"),
    "an index that leaves": (index(a="/etc/passwd"), "weight_map must map tensors"),
    "an index of controls": (index(a="\x1b.safetensors"), "weight_map must map tensors"),
    "an index of what is not there": (index(a="model.safetensors"), "says that model.safetensors holds 'a', which it"),
    "an index of a missing file": (index(a="model-2.safetensors"), "named in model.safetensors.index.json but missing"),
    "a header without end": (
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64),
        "not a safetensors file, or truncated",
    ),
    "a header of the file's size": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 8) + b"[]      "),
        "its header is malformed",
    ),
    "a header that is no JSON": (header(lambda _: b"{oops}"), "not a safetensors file"),
    "a header in UTF-16": (header(lambda v: json.dumps(v).encode("utf-16")), "its header is no text"),
    "a deep header": (header(lambda _: b'{"a":' * 3000 + b"1" + b"}" * 3000), "nested deeper"),
    "an unknown type": (header(lambda v: first(v, dtype="F1")), "its header is malformed"),
    "a type that is a list": (header(lambda v: first(v, dtype=["F32"])), "its header is malformed"),
    "a shape of texts": (header(lambda v: first(v, shape=["1"])), "its header is malformed"),
    "a shape below zero": (header(lambda v: first(v, shape=[-1, -5])), "its header is malformed"),
    "a shape without end": (header(lambda v: first(v, shape=[2**62, 2**62])), "its header is malformed"),
    "another shape": (header(lambda v: first(v, shape=[1, 2, 3])), "its header is malformed"),
    "offsets that are one": (header(lambda v: first(v, data_offsets=[0])), "its header is malformed"),
    "offsets backwards": (header(lambda v: first(v, data_offsets=[64, 0])), "its header is malformed"),
    "tensors over one another": (
        header(lambda v: {**v, "twin": next(e for n, e in v.items() if n != "__metadata__")}),
        "its header is malformed",
    ),
    "packed weights": (tensors(lambda t: {n: x.to(torch.uint8) for n, x in t.items()}), r"quantized tensors \(U8\)"),
    "eight-bit floats": (
        tensors(lambda t: {n: x.to(torch.float8_e4m3fn) for n, x in t.items()}),
        r"quantized tensors \(F8_E4M3\)",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_before_any_job_and_in_it(case, tmp_path):
    breaking, message = FOLDERS[case]
    folder = make_language_model(tmp_path / "theirs")
    breaking(folder)
    began = time.process_time()
    line = check_source("mine", "s", path_family(folder))
    assert time.process_time() - began < 2.0
    with pytest.raises(ModelError, match=message):
        raise ModelError(line)
    assert line.startswith(f"families.mine.scales.s: {folder}") and line.isprintable()
    with pytest.raises(ModelError, match=message) as caught:
        prepare_model("mine", "s", path_family(folder), [], tmp_path / "out", 0)
    assert str(caught.value).isprintable() and not (tmp_path / "out").exists()


PLACES = {
    "~nosuchuser/model": "has no home folder here",
    "x" * 3000: "no such folder",
    "~nosuchuser": "has no home folder here",
    "/dev/null": "no such folder",
    "": None,
}


@pytest.mark.parametrize("place", PLACES)
def test_places_that_are_none(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not place:
        Path("round").symlink_to("round")
        place = "round"
    for family in (path_family(place), gguf_family(place)):
        line = check_source("mine", "s", family) or ""
        assert line.startswith("families.mine.scales.s: ") and line.isprintable() and len(line.splitlines()) == 1
        with pytest.raises(ModelError) as caught:
            prepare_model("mine", "s", family, [], tmp_path / "out", 0)
        assert str(caught.value).isprintable()
    if message := PLACES.get(place):
        assert message in (check_source("mine", "s", path_family(place)) or "")


# --- what only the job sees -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_by_name(value, dtype, tmp_path):
    def damage(found):
        found = {name: tensor.to(dtype) for name, tensor in found.items()}
        found["model.layers.1.mlp.up_proj.weight"][5, 3] = value
        return found

    folder = make_language_model(tmp_path / "theirs")
    tensors(damage)(folder)
    assert check_source("mine", "s", path_family(folder)) is None
    with pytest.raises(ModelError) as caught:
        prepare_model("mine", "s", path_family(folder), [], tmp_path / "out", 0)
    message = str(caught.value)
    assert message.startswith(f"{folder}/model.safetensors: model.layers.1.mlp.up_proj.weight holds numbers")
    assert not (tmp_path / "out").exists()


def test_they_are_looked_for_in_parts(tmp_path, monkeypatch):
    from hardscale.models import finite

    monkeypatch.setattr(finite, "_PART", 7)
    rows = {"a": torch.zeros(5, 3), "b": torch.tensor(1.0), "c": torch.zeros(0, 4), "d": torch.arange(4)}
    save_file(rows, tmp_path / "x.safetensors")
    check_finite([tmp_path / "x.safetensors"])
    rows["a"][4, 2] = float("nan")
    save_file(rows, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="a holds numbers that are not finite"):
        check_finite([tmp_path / "x.safetensors"])


def test_weights_of_a_gguf_file_that_are_not_finite(tmp_path):
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    data = bytearray(file.read_bytes())
    data[-8:-4] = struct.pack("<f", float("nan"))
    file.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="not finite") as caught:
        prepare_model("mine", "s", gguf_family(file), [], tmp_path / "out", 0)
    assert str(file) in str(caught.value) and ".tmp-" not in str(caught.value)


LATER = {
    "an unknown model_type": (config(model_type="nonesuch"), "transformers knows"),
    "rope that is a text": (config(rope_parameters="x", rope_scaling="x"), "."),
    "rope of an unknown type": (config(rope_parameters={"rope_type": "spiral", "rope_theta": 1.0}), "."),
    "an unknown activation": (config(hidden_act="nothing"), "."),
    "heads that do not divide": (config(num_attention_heads=5, head_dim=None), "."),
    "a type of numbers that is none": (config(dtype="float99", torch_dtype="float99"), "."),
    "labels that are none": (config(id2label=[1, 2], num_labels=-4), "."),
    "a tokenizer of nothing": (put("tokenizer.json", "{}"), "the tokenizer cannot be loaded"),
    "a tokenizer of another kind": (put("tokenizer.json", '{"version": "1.0", "model": {"type": "X"}}'), "tokenizer"),
    "a tokenizer that is nested": (
        lambda f: (f / "tokenizer.json").write_text(
            json.dumps({**json.loads((f / "tokenizer.json").read_text()), "normalizer": {"type": "Sequence"}})
        ),
        "tokenizer",
    ),
    "a class that is none": (put("tokenizer_config.json", '{"tokenizer_class": ["a"]}'), "."),
    "tokens that are none": (put("tokenizer_config.json", '{"eos_token": {"content": 3}, "pad_token": []}'), "."),
}


@pytest.mark.parametrize("case", LATER)
def test_what_a_library_finds_is_one_line_about_the_users_folder(case, tmp_path):
    breaking, message = LATER[case]
    folder = make_language_model(tmp_path / "theirs")
    breaking(folder)
    try:
        prepare_model("mine", "s", path_family(folder), [], tmp_path / "out", 0)
    except ModelError as error:
        with pytest.raises(ModelError, match=message):
            raise
        assert str(error).isprintable() and ".tmp-" not in str(error)
    else:
        assert message == "."  # a library may read it as something right


def test_panics_of_libraries_are_errors(tmp_path, monkeypatch):
    from hardscale.models import load

    class PanicException(BaseException):
        pass

    def panic(*_, **__):
        raise PanicException("called `Option::unwrap()` on a `None` value")

    folder = make_language_model(tmp_path / "theirs")
    monkeypatch.setattr(load.AutoTokenizer, "from_pretrained", panic)
    with pytest.raises(ModelError, match="a library panics"):
        read_tokenizer(folder)
    monkeypatch.setattr(load.AutoConfig, "from_pretrained", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_config(folder)


# --- headers --------------------------------------------------------------------------------------------------------


def test_headers_of_right_files(tmp_path):
    folder = make_language_model(tmp_path / "theirs")
    found = read_safetensors_header(folder / "model.safetensors")
    wanted = load_file(folder / "model.safetensors")
    assert {name: entry.shape for name, entry in found.items()} == {name: tuple(t.shape) for name, t in wanted.items()}
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    values = read_header(file)
    assert values["general.architecture"] == "llama" and values["llama.context_length"] == 64
    assert values["tokenizer.ggml.tokens"] == 260 and values["llama.attention.head_count"] == 2


@pytest.mark.parametrize("cut", [4, 8, 23, 24, 30, 100, 500, 2000])
def test_a_cut_gguf_header(cut, tmp_path):
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:cut])
    line = check_source("mine", "s", gguf_family(file)) or ""
    assert "its header is cut or malformed" in line and str(file) in line


def test_a_gguf_file_of_another_kind(tmp_path):
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    data = file.read_bytes()
    file.write_bytes(data.replace(struct.pack("<Q", 5) + b"llama", struct.pack("<Q", 5) + b"mamba", 1))
    assert "model_type 'mamba' is a state-space" in (check_source("mine", "s", gguf_family(file)) or "")


def test_right_folders_are_taken(tmp_path):
    """Sharded, in half precision, with buffers of whole numbers, and beside files that nobody reads."""
    folder = make_language_model(tmp_path / "theirs")
    found = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    names = sorted(found)
    save_file({n: found[n] for n in names[::2]}, folder / "model-1.safetensors", {"format": "pt"})
    more = {"model.layers.0.attn.bias": torch.ones(4, dtype=torch.uint8)}
    save_file({**{n: found[n] for n in names[1::2]}, **more}, folder / "model-2.safetensors", {"format": "pt"})
    (folder / "model.safetensors").unlink()
    weight_map = {n: f"model-{1 + i % 2}.safetensors" for i, n in enumerate(names)}
    index(**weight_map)(folder)
    os.mkfifo(folder / "a pipe")
    assert check_source("mine", "s", path_family(folder)) is None
    prepare_model("mine", "s", path_family(folder), [], tmp_path / "out", 0)
    assert read_manifest(tmp_path / "out")["facts"]["has_weights"]


def test_scratch_families_are_none_of_this():
    family = FamilySettings.model_validate(
        {"source": "scratch", "scales": {"s": {"n_layers": 1, "width": 16, "n_heads": 2}}}
    )
    assert check_source("mine", "s", family) is None
