"""Whether a claim was registered before its runs, by what their manifests list and by git."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from bnrepro.evidence.registration import Registration
from bnrepro.evidence.runs import listed
from bnrepro.store import StoredRun


@dataclass(frozen=True)
class Registered:
    """A claim's registration, and the names of the runs that do not follow from it.

    Args:
        registration: of the claim.
        runs: how many runs there are.
        unlisted: runs whose manifest does not list the claim's digest.
        earlier: runs made at a commit that does not descend from the registration's.
        unknown: runs made at no commit, or at one that the history of the claim's file lacks.
        dirty: runs made while changes were not committed.
    """

    registration: Registration
    runs: int
    unlisted: Sequence[str]
    earlier: Sequence[str]
    unknown: Sequence[str]
    dirty: Sequence[str]

    @property
    def mark(self) -> str:
        """The words for a table if the claim did not stand as it is before its runs."""
        return "registered after its runs" if self.unlisted else ""

    @property
    def sentences(self) -> list[str]:
        """All there is to say of it."""
        of = self.registration
        if not of.digest:
            return ["They have no file, and are not registered."]
        said = [f"Their digest is {of.digest[:12]}."]
        if of.root is None:
            said.append("Their file has no whole history here: no commit shows since when.")
        elif of.sha is None:
            said.append("They are not committed.")
        else:
            said.append(f"They are the same since commit {of.sha[:12]} of {of.date}.")
        if self.runs and not self.unlisted:
            said.append("Every run lists the digest.")
        for runs, what in (
            (self.unlisted, "Registered after its runs: the digest is not listed by"),
            (self.earlier, "That commit does not come before"),
            (self.unknown, "Nothing shows whether that commit comes before"),
            (self.dirty, "Changes were not committed at the time of"),
        ):
            if runs:
                said.append(f"{what} {len(runs):,} of {self.runs:,} runs ({listed(runs)}).")
        return said


def registered(
    registration: Registration, runs: Sequence[StoredRun], ancestors: Mapping[str, Set[str]]
) -> Registered:
    """How a claim's runs follow from its registration.

    Args:
        registration: of the claim.
        runs: of the claim; those that are missing are left out.
        ancestors: of each commit that the history of the claim's file has.
    """
    names: dict[str, list[str]] = {"unlisted": [], "earlier": [], "unknown": [], "dirty": []}
    manifests = {run.folder.name: run.manifest() for run in runs if run.exists()}
    for name, manifest in manifests.items():
        commits = made_at(manifest)
        before = [ancestors.get(str(commit.get("sha"))) for commit in commits]
        if registration.digest not in (manifest.get("registered") or {}).values():
            names["unlisted"].append(name)
        if registration.sha is not None:
            if any(known is not None and registration.sha not in known for known in before):
                names["earlier"].append(name)
            elif None in before:
                names["unknown"].append(name)
        if any(commit.get("dirty") for commit in commits):
            names["dirty"].append(name)
    return Registered(registration, len(manifests), **names)


def made_at(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The commits that a run was begun and resumed at; empty ones outside of a checkout."""
    return [each.get("git") or {} for each in (manifest, *manifest.get("resumes", ()))]
