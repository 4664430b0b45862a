"""What `penstock connectors check` looks at: the declaration of a type, and one made of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from connectors.contracts import (
    Check,
    ConnectorType,
    Sink,
    SinkTraits,
    Source,
    SourceTraits,
)
from connectors.errors import PenstockError
from connectors.settings import Settings
from penstock.cli.preflight import failed


def check_type(found: ConnectorType) -> Iterator[Check]:
    """Check what the type says of itself; nothing is made of it."""
    model: Any = found.settings
    ok = isinstance(model, type) and issubclass(model, Settings)
    yield Check(
        "settings",
        ok=ok,
        found=getattr(model, "__name__", repr(model)),
        hint="" if ok else "Derive it from connectors.settings.Settings.",
    )
    if ok:
        yield _described(model)
    makes = [role for role in ("source", "sink") if getattr(found, role) is not None]
    yield Check(
        "factory",
        ok=bool(makes),
        found=" and ".join(makes) or "none",
        hint="" if makes else "Give ConnectorType a `source` or a `sink` that makes one.",
    )
    yield Check(
        "summary", ok=bool(found.summary), found=found.summary or "none", severity="warning"
    )


def _described(model: type[Settings]) -> Check:
    try:
        properties: Mapping[str, Any] = model.model_json_schema().get("properties", {})
    except Exception as error:  # noqa: BLE001 - whatever a type of its own raises
        return Check(
            "JSON Schema",
            ok=False,
            found=f"{type(error).__name__}: {error}",
            hint="Editors and the reference are made of it.",
        )
    silent = [key for key, value in properties.items() if not value.get("description")]
    if silent:
        return Check(
            "descriptions",
            ok=False,
            found=f"none of {', '.join(silent)}",
            hint="Write a docstring below each field.",
            severity="warning",
        )
    return Check("descriptions", ok=True, found=f"all of {len(properties)}")


def check_made(
    found: ConnectorType, config: Mapping[str, Any]
) -> Iterator[Check | Callable[[], Iterable[Check]]]:
    """Check the configuration and what is made of it; yields a preflight to be run where there is one."""
    try:
        settings = found.settings.model_validate(dict(config))
    except ValidationError as error:
        for each in error.errors():
            place = ".".join(map(str, each["loc"])) or "config"
            yield Check("config", ok=False, found=f"{place}: {each['msg']}")
        return
    yield Check("config", ok=True, found="valid")
    for role, factory, contract, traits in (
        ("source", found.source, Source, SourceTraits),
        ("sink", found.sink, Sink, SinkTraits),
    ):
        if factory is None:
            continue
        try:
            made = factory("check", settings)
        except PenstockError as error:
            yield failed(role, error)
            continue
        lacking = _lacking(made, contract, traits)
        yield Check(
            role,
            ok=not lacking,
            found=f"{type(made).__name__} lacks {', '.join(lacking)}" if lacking else "made",
            hint="connectors/contracts.py says what each must do." if lacking else "",
        )
        if not lacking:
            yield _preflight(made)


def _preflight(made: Any) -> Callable[[], Iterable[Check]]:
    if isinstance(made, Sink):
        return lambda: made.preflight([])
    preflight: Callable[[], Iterable[Check]] = made.preflight
    return preflight


def _lacking(made: object, contract: type, traits: type) -> list[str]:
    names = [name for name in vars(contract) if not name.startswith("_") and name != "traits"]
    lacking = [name for name in names if not callable(getattr(made, name, None))]
    if not isinstance(getattr(made, "traits", None), traits):
        lacking.append(f"traits, a {traits.__name__}")
    return lacking
