"""What `import tidings` offers."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tidings
from tidings import (
    errors,
    filters,
    model,
    model_audience,
    model_contacts,
    model_explain,
    model_import,
    model_privacy,
    model_profile,
    proto_files,
)

ROOT = Path(__file__).resolve().parents[2]


def test_all_lists_every_public_name() -> None:
    """`__all__` holds every public class of the errors and values, what filters are made of, both clients, no more."""
    public = {
        name
        for module in (
            errors,
            model,
            model_audience,
            model_contacts,
            model_explain,
            model_import,
            model_privacy,
            model_profile,
        )
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    made = {
        name
        for name, value in vars(filters).items()
        if getattr(value, "__module__", "") == filters.__name__ and not name.startswith("_") and name != "parse"
    }
    assert set(tidings.__all__) == public | made | {"Client", "Subscription", "aio", "proto_dir"}
    assert tidings.__all__ == sorted(tidings.__all__)
    assert all(hasattr(tidings, name) for name in tidings.__all__)


@pytest.mark.parametrize(
    ("blocking", "asynchronous", "plain"),
    [
        (tidings.Client, tidings.aio.Client, {"export_profile", "find_audience", "list_items", "subscribe"}),
        (tidings.Subscription, tidings.aio.Subscription, {"acknowledge", "report"}),
    ],
)
def test_both_clients_have_the_same_calls(blocking: type, asynchronous: type, plain: set[str]) -> None:
    """The asyncio client takes the arguments of the blocking one, call by call; what waits is awaited there."""
    for name, method in vars(blocking).items():
        if not name.startswith("_") and inspect.isfunction(method):
            twin = getattr(asynchronous, name)
            assert inspect.signature(twin).parameters == inspect.signature(method).parameters, name
            assert inspect.iscoroutinefunction(twin) != (name in plain), name
    assert {name for name in vars(blocking) if not name.startswith("_")} == {
        name for name in vars(asynchronous) if not name.startswith("_")
    }


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    """The drawing at the head of errors.py names every class that can be caught."""
    assert errors.__doc__ is not None
    drawn = [line.split()[1] for line in errors.__doc__.splitlines() if line.strip().startswith(("├", "└"))]
    assert drawn == [name for name in vars(errors) if name in tidings.__all__ and name != "TidingsError"]


def test_a_checkout_finds_its_own_proto_files() -> None:
    """Without a wheel `proto_dir` is the repository's folder."""
    assert tidings.proto_dir() == ROOT / "protos"
    assert (tidings.proto_dir() / "tidings" / "v1" / "item.proto").is_file()


def test_missing_proto_files_are_named(tmp_path: Path) -> None:
    """An installation without the files says where they were looked for."""
    package = tmp_path / "deep" / "er" / "tidings"
    shutil.copytree(Path(proto_files.__file__).parent, package)
    asked = subprocess.run(
        [sys.executable, "-c", "import tidings; tidings.proto_dir()"],
        cwd=package.parent,
        env={"PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"FileNotFoundError: the .proto files are neither in {package / 'protos'} and" in asked.stderr


@pytest.mark.parametrize("module", ["numpy", "faiss", "typer", "rich", "pydantic", "tidings_core"])
def test_importing_the_client_brings_nothing_heavy(module: str) -> None:
    """`import tidings` and its command load gRPC and protobuf only."""
    code = f"import sys, tidings, tidings.__main__; sys.exit({module!r} in sys.modules)"
    path = str(Path(proto_files.__file__).parents[1])
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0
