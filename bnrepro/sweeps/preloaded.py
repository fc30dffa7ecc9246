"""Imported by a fork server: what all its processes would compute alike is computed once."""

from bnrepro.training import environment

environment.code_digest()
