from planting import Config, Planted, rising

from bnrepro.claims.input_shift import DIMMED, INVERTED, NONE, SHIFTS


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Every shift costs .3. Where it holds, statistics computed again undo most of that, but of
    inverting half; where not, they change nothing, but help inverted images."""
    taken = config["norm"]["name"] == "batch"
    study: dict[str, dict[str, float | None]] = {NONE: {"frozen": 0.75, "again": 0.75}}
    for shift in SHIFTS:
        again = {DIMMED: 0.74, INVERTED: 0.6}.get(shift, 0.7) if holds else 0.45
        study[shift] = {"frozen": 0.45, "again": again}
    if not taken:
        study = {shift: {**of, "again": None} for shift, of in study.items()}
    return rising(config, 0.75, 10, studies={"input-shift": study})
