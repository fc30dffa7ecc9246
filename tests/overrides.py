"""Random overrides: odd ones of every kind, and plausible ones of the right types."""

import random

from hypothesis import strategies as st

from bnrepro import config as c
from bnrepro.config.compose import compose

KNOWN = [*c.flat(c.to_dict(compose([]).config)), *c.OPTIONS, "experiment", "train", "tags"]

VALUES = st.one_of(
    st.sampled_from(
        ["", "1", "-1", "0", "nan", "inf", "-inf", "1e400", "1e-400", "null", "true", "on", "off",
         "010", "1:30", "[1,2]", "[]", "{}", "{a:1}", "[[1],{b:[2]}]", "'x'", '"', "'", "\\", "${",
         "${seed}", "${oc.env:HOME}", "${run}", "${a.b}", "$", "a=b", "a,b", "range(1,3)",
         "choice(1,2)", "glob(*)", "interval(0,1)", "_target_", "???", "*", "~", "+", "@", "{", "[",
         "shuffle(1,2)", "int(2.5)", "str(1)", "sort(3,1)", "9" * 40, "x" * 5000, "ünï", "批",
         "\n", "\t", " "]
    ),
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(KNOWN),
    st.sampled_from(KNOWN).flatmap(lambda key: st.sampled_from([key[:-1], key + "x", key + ".x"])),
    st.sampled_from(["hydra.run.dir", "hydra", "hydra.searchpath", "_target_", "a/b", "", "."]),
    st.text(max_size=6),
)
OVERRIDES = st.builds(
    "{}{}{}{}".format, st.sampled_from(["", "", "", "+", "++", "~"]), KEYS,
    st.sampled_from(["=", "=", "=", ""]), VALUES,
)  # fmt: skip
LISTS = st.lists(OVERRIDES, min_size=1, max_size=4)

NUMBERS = ("0", "1e-30", "1e-3", "0.07", "0.5", "1", "30", "1e8", "1e38", "-1", "nan")
COUNTS = ("0", "1", "2", "3", "7", "60", "1000", "1292", "5000")


def plausible(chance: random.Random) -> list[str]:
    """Some settings of one run on digits, each of the right type and many at their limits."""
    norm = chance.choice([*c.OPTIONS["norm"]])
    optimizer = chance.choice(["sgd", "adam", "adagrad"])
    choices = {
        "model.hidden": ("[1]", "[3]", "[30,20]", "[5,1,5]", "[]", "[0]"),
        "model.activation": ("sigmoid", "relu", "tanh"),
        "model.dropout": ("0", "0.5", "0.999", "1"),
        "init": ("gaussian", "xavier", "he", "shifted"),
        "init.scale": NUMBERS,
        "optimizer.lr": NUMBERS,
        "optimizer.weight_decay": NUMBERS,
        "schedule": ("constant", "linear schedule.final=0.1", "exponential schedule.final=1e-9"),
        "train.batch_size": COUNTS,
        "train.log_every": COUNTS,
        "train.eval_every": COUNTS,
        "train.checkpoint_every": COUNTS,
        "train.eval_population": ("true", "false"),
        "probe.every": COUNTS,
        "probe.size": COUNTS,
        "probe.jacobian": ("true", "false"),
        "probe.moments": ("true", "false"),
        "studies": (
            "[]",
            "[inference]",
            "[scale-invariance]",
            "[identity-transform]",
            "[bias-drift]",
            "[variance-estimate]",
        ),
        "seed": ("0", "1", "9223372036854775807", "-1"),
        "tensorboard": ("true", "false"),
        "dataset.validation": ("1", "100", "1436", "2000"),
        "dataset.inputs": ("default", "standardized", "raw", "shifted", "uneven", "whitened"),
        "dataset.limit": ("null", *COUNTS),
        "tags": ("[]", "[a]", "['b c',ä]"),
    }
    if norm not in ("none", "dyt"):
        choices["norm.eps"] = NUMBERS
    if norm not in ("none", "dyt", "layer", "group"):
        choices["norm.momentum"] = ("null", *NUMBERS)
    if norm not in ("none", "detached"):
        choices["norm.placement"] = ("pre", "post")
    if norm == "group":
        choices["norm.groups"] = COUNTS
    if norm == "dyt":
        choices["norm.alpha"] = NUMBERS
    if norm == "detached":
        choices["norm.scaling"] = ("true", "false")
    if norm in ("batch", "torch"):
        choices |= {
            "norm.population_batches": COUNTS,
            "norm.keep_bias": ("true", "false"),
            "norm.affine": ("true", "false"),
            "norm.ghost_size": ("null", *COUNTS),
        }
    if optimizer == "sgd":
        choices["optimizer.momentum"] = ("0", "0.9", "0.999999", "1")
    picked = chance.sample(sorted(choices), chance.randint(0, 8))
    words = [f"{key}={chance.choice(choices[key])}" for key in picked]
    settings = [word for pair in words for word in pair.split(" ")] if words else []
    return ["dataset=digits", f"norm={norm}", f"optimizer={optimizer}", *settings]
