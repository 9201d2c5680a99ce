"""What several tests of the repository do."""

from pathlib import Path

from tests.trust.simulator import write_artifact

from edgeferry.fleet.repository import Repository


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add(repository: Repository, tmp_path: Path, *versions: int, name: str = "digits") -> None:
    for version in versions:
        repository.add_artifacts(write_artifact(tmp_path / "artifacts", name, version))
