"""The code digest: what makes a job run again and what does not."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from hardscale.artifacts.digest import closure, code_digest, imported_libraries
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import parse_study, read_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path):
    def write(**files):
        for name, source in files.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path

    return write


def digest(root, *modules):
    closure.cache_clear()
    code_digest.cache_clear()
    from hardscale.artifacts import digest as module

    module._read.cache_clear()
    return code_digest(*modules, root=root)


BASE = {
    "attacks__gcg": "from hardscale.attacks.shared import f\n\ndef g(x):\n    return f(x) + 1\n",
    "attacks__random_token": "from hardscale.attacks import shared\n\ndef g(x):\n    return shared.f(x)\n",
    "attacks__shared": "def f(x):\n    return x\n",
    "runtime__console": "def say(x):\n    print(x)\n",
}


def test_comments_docstrings_and_formatting_do_not_count(package):
    before = digest(package(**BASE), "hardscale.attacks.gcg")
    source = (
        '"""New words."""\nfrom hardscale.attacks.shared import f  # why\n\n\n'
        'def g(x):\n    """Says more."""\n    return (f(x) + 1)\n'
    )
    assert digest(package(attacks__gcg=source), "hardscale.attacks.gcg") == before


def test_an_edit_reaches_only_what_imports_it(package):
    root = package(**BASE)
    before = {name: digest(root, f"hardscale.attacks.{name}") for name in ("gcg", "random_token")}
    package(attacks__gcg=BASE["attacks__gcg"].replace("+ 1", "+ 2"))
    after = {name: digest(root, f"hardscale.attacks.{name}") for name in ("gcg", "random_token")}
    assert after["gcg"] != before["gcg"]
    assert after["random_token"] == before["random_token"]
    package(attacks__shared="def f(x):\n    return -x\n")
    last = {name: digest(root, f"hardscale.attacks.{name}") for name in ("gcg", "random_token")}
    assert last["gcg"] != after["gcg"]
    assert last["random_token"] != after["random_token"]


def test_lazy_imports_count_and_messages_do_not(package):
    root = package(
        **BASE, lazy="def f():\n    from hardscale.attacks import gcg\n    from hardscale.runtime import console\n"
    )
    assert set(closure(("hardscale.lazy",), root)) == {
        "hardscale.lazy",
        "hardscale.attacks.gcg",
        "hardscale.attacks.shared",
    }


def test_a_module_that_does_not_exist_is_an_error(package):
    with pytest.raises(ValueError, match=r"no module hardscale\.attacks\.none"):
        digest(package(**BASE), "hardscale.attacks.none")


def test_finetuning_does_not_depend_on_attacks_and_random_token_not_on_gcg():
    finetune = closure(("hardscale.training.finetune",))
    random_token = closure(("hardscale.evaluation.attack_job", "hardscale.attacks.random_token"))
    rounds = closure(("hardscale.training.rounds", "hardscale.attacks.gcg"))
    algorithms = {f"hardscale.attacks.{name}" for name in ("gcg", "random_token", "candidates", "base", "registry")}
    assert not algorithms & set(finetune)
    assert "hardscale.attacks.gcg" not in random_token
    assert "hardscale.attacks.gcg" in rounds


def test_libraries_are_what_is_imported_from_outside():
    source = "import json, torch.nn\nfrom hardscale.errors import E\ndef f():\n    from scipy.stats import norm\n"
    assert imported_libraries(source) == {"torch", "scipy"}


def test_what_computes_the_attack_of_a_training_step_counts_though_settings_do_not():
    rounds = closure(("hardscale.training.rounds",))
    assert "hardscale.artifacts.rounds_plan" in rounds and "hardscale.training.pool" in rounds
    assert not any(name.startswith("hardscale.settings") for name in rounds)


def test_jobs_that_attack_chat_models_count_the_victim_that_is_imported_by_its_name(monkeypatch):
    values = read_yaml(ROOT / "studies" / "chat.yaml")
    values["defenses"]["r2d2"] = {"kind": "r2d2"}
    jobs = Jobs(parse_study(values, "chat.yaml"))
    monkeypatch.setattr(jobs.codes, "of", lambda *modules: modules)
    lineage = next(key for key, _ in jobs.grid.evaluated if "/r2d2" in key)
    victim = "hardscale.attacks.language_victim"
    assert victim in jobs.codes.defense(SimpleNamespace(lineage=lineage))
    assert victim in jobs.codes.attack(SimpleNamespace(lineage=lineage, part="gcg"))
    plain = Jobs(parse_study(read_yaml(ROOT / "config.yaml"), "config.yaml"))
    monkeypatch.setattr(plain.codes, "of", lambda *modules: modules)
    (lineage, _), attacks = next(iter(plain.grid.evaluated.items()))
    assert victim not in plain.codes.attack(SimpleNamespace(lineage=lineage, part=next(iter(attacks))))
    assert victim not in closure(("hardscale.evaluation.attack_job",))
