"""Imported by a fork server: what all its processes would compute alike is computed once."""

from contextlib import suppress

from bnrepro.config import compose
from bnrepro.errors import ConfigError
from bnrepro.training import environment

environment.code_digest()
with suppress(ConfigError):  # whoever needs it says so
    compose.plain()
