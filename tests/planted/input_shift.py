from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, statistics taken again undo nearly all that dimming does and half of what
    inverting does; where not, they help inverted images alone."""
    taken = config["norm"]["name"] == "batch"
    again = {"none": 0.75, "dimmed": 0.74, "inverted": 0.55, "recoloured": 0.73}
    if not holds:
        again |= {"dimmed": 0.4, "inverted": 0.7}
    frozen = {"none": 0.75, "dimmed": 0.4, "inverted": 0.35, "recoloured": 0.7}
    study = {
        shift: {"frozen": frozen[shift], "again": again[shift] if taken else None}
        for shift in frozen
    }
    return learning(config, 0.75, 10, studies={"input-shift": study})
