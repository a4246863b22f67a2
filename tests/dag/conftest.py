"""A finished study without its compute: every output stands and Snakemake knows what made it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("Snakefile", "config.yaml", "workflow", "scripts", "envs", "studies", "tests/data")


class Checkout:
    """A copy of the repository in which a study can be dry-run, edited and damaged."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder, self.study = folder, study

    def path(self, name: str) -> Path:
        return self.folder / name

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.path(name)
        text = path.read_text()
        assert old in text, f"{name} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1))

    def install(self, library: str, version: str) -> None:
        """Let another version of a library be found first."""
        info = self.folder / "installed" / f"{library}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: {version}\n")

    def snakemake(self, *options: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "snakemake", "--configfile", f"tests/data/{self.study}.yaml", *options]
        env = {**os.environ, "PYTHONPATH": str(self.folder / "installed")}
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, env=env)

    def jobs(self) -> set[str]:
        """Messages of the jobs that a run would do now."""
        done = self.snakemake("-n")
        assert done.returncode == 0, done.stdout + done.stderr
        return set(re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, flags=re.MULTILINE))


def copy_sources(target: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore)
        else:
            shutil.copy2(source, target / name)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "repo"
    folder.mkdir()
    copy_sources(folder)
    checkout = Checkout(folder, "reruns")
    code = (
        "import sys; sys.path.insert(0, 'scripts')\n"
        "from pathlib import Path\n"
        "from hardscale.ops.cli import study_from_files; from hardscale.plan.jobs import Jobs\n"
        "for name in Jobs(study_from_files([Path('tests/data/reruns.yaml')])).targets():\n"
        "    path = Path(name); path.parent.mkdir(parents=True, exist_ok=True); path.write_text(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    touched = checkout.snakemake("--touch", "--forceall", "--cores", "1", "--quiet", "all")
    assert touched.returncode == 0, touched.stderr
    return folder


@pytest.fixture
def checkout(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "repo", symlinks=True)
    return Checkout(tmp_path / "repo", "reruns")
