"""Where the .proto files are, for clients in other languages and for tools such as grpcurl."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
# In an installed wheel, and in a checkout of the repository.
_PLACES = (_HERE / "protos", _HERE.parents[2] / "protos")


def proto_dir() -> Path:
    """Return the folder to import `tidings/v1/recommendation_service.proto` and its neighbours from.

    Raises FileNotFoundError when the installation lacks them.
    """
    for place in _PLACES:
        if (place / "tidings" / "v1" / "recommendation_service.proto").is_file():
            return place
    looked = " and ".join(str(place) for place in _PLACES)
    raise FileNotFoundError(f"the .proto files are neither in {looked}: install tidings again")
