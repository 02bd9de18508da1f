"""The providers that there are: a module each in `labctl.vm.providers`, imported when one is asked for."""

from __future__ import annotations

import pkgutil

from labctl.runtime.discovery import discover
from labctl.runtime.errors import UsageError
from labctl.vm import providers
from labctl.vm.provider import Provider


def provider_names() -> tuple[str, ...]:
    """The providers that people may choose: a module each, not imported here, so that the command line starts fast."""
    return tuple(info.name for info in pkgutil.iter_modules(providers.__path__) if info.name != "fake")


def provider_named(name: str) -> Provider:
    """The provider; UsageError lists those there are."""
    found = discover(providers, "PROVIDER", Provider).get(name)  # type: ignore[type-abstract]
    if found is None:
        raise UsageError(f"there is no provider {name!r}", hint=f"the providers are: {', '.join(provider_names())}")
    return found
