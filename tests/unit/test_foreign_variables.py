"""Environment variables of other packages that the library sets or reads are ones that these packages know."""

import re
from importlib.util import find_spec
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "scripts"
NAME = re.compile(r'"((?:TOKENIZERS|HF|TRANSFORMERS)_[A-Z_]+)"')
PACKAGES = ("tokenizers", "huggingface_hub", "transformers.utils", "datasets")


def of_packages() -> bytes:
    folders = [Path(find_spec(name).origin).parent for name in PACKAGES]
    files = [path for folder in folders for path in folder.iterdir() if path.suffix in (".py", ".so")]
    return b"\n".join(path.read_bytes() for path in files)


def test_other_packages_know_the_variables_that_we_name():
    named = {name for path in LIBRARY.rglob("*.py") for name in NAME.findall(path.read_text("utf-8"))}
    assert {"TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_PROGRESS_BARS"} <= named
    known = of_packages()
    assert {name for name in named if name.encode() not in known} == set()
