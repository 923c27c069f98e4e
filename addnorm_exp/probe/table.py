"""The probe's tables: log-log slopes against depth per scheme, and each prediction with its verdict."""

from collections.abc import Mapping
from dataclasses import replace

from addnorm_exp.probe.measurements import Probed
from addnorm_exp.probe.verdict import FAILS, HOLDS, UNDECIDED, UNJUDGED, Verdict, judge, number
from addnorm_exp.report.tables.render import Column, Table
from addnorm_exp.residual import Scheme
from addnorm_exp.residual.predictions import DEPTHS, LEAST_SEEDS, LEAST_WIDTH, SETTINGS
from addnorm_exp.words import counted, signed

SLOPES = ("stream_ms", "grad_w2", "grad_stream", "sensitivity")
VALUES = ("token_similarity", "attn_entropy")
TITLES = {"batch": "a real batch", "theory": "the setting of theory (uniform attention, no output projection)"}


def tables(probed: Probed, schemes: Mapping[str, Scheme], width: int, seeds: int) -> list[Table]:
    """One table per setting, then the verdicts on the predictions of the schemes' records, if there are any."""
    fits = _fits(probed.depths, width, seeds)
    verdicts = {
        name: [
            one if fits or one.verdict == UNDECIDED else replace(one, verdict=UNJUDGED)
            for one in judge(probed, name, schemes[name].predictions)
        ]
        for name in probed.schemes
    }
    result = [_slopes(probed, setting, verdicts, width, seeds) for setting in SETTINGS]
    if any(verdicts.values()):
        result.append(_predictions([one for name in probed.schemes for one in verdicts[name]], fits))
    return result


def _slopes(probed: Probed, setting: str, verdicts: Mapping[str, list[Verdict]], width: int, seeds: int) -> Table:
    deepest = probed.depths[-1]
    columns = [
        Column("scheme", "scheme", right=False),
        *(Column(f"{name}_slope", f"{name} slope") for name in SLOPES),
        *(Column(name, f"{name} at {deepest}") for name in VALUES),
        Column("predictions", "predictions", right=False),
    ]
    rows, records = [], []
    for scheme in probed.schemes:
        slopes = [probed.slope(scheme, setting, name) for name in SLOPES]
        ends = [probed.end(scheme, setting, name, deepest) for name in VALUES]
        own = [one.verdict for one in verdicts[scheme] if one.prediction.setting == setting]
        cells = ["none" if value is None else signed(value, ".2f") for value in slopes]
        cells += ["none" if value is None else number(value) for value in ends]
        summary = _summary(own)
        rows.append([scheme, *cells, summary])
        values = dict(zip([column.key for column in columns[1:-1]], [*slopes, *ends], strict=True))
        records.append({"scheme": scheme, "setting": setting, **values, "predictions": summary})
    notes = (
        f"Slopes of log(value) against log(depth) over depths {', '.join(map(str, probed.depths))}; width {width}, "
        f"mean of {counted(seeds, 'seed')}.",
        "stream_ms is measured at the last block's input, grad_w2 and attn_entropy in the last block, grad_stream at the first block's "
        "input, the others at the output.",
    )
    return Table(f"At init, {TITLES[setting]}", columns, rows, notes, records)


def _summary(verdicts: list[str]) -> str:
    """`1 of 2 hold, 3 not decided`."""
    decided = [verdict for verdict in verdicts if verdict in (HOLDS, FAILS)]
    parts = [f"{decided.count(HOLDS)} of {len(decided)} hold"] * bool(decided)
    parts += [f"{verdicts.count(other)} {other}" for other in (UNDECIDED, UNJUDGED) if other in verdicts]
    return ", ".join(parts) or "none"


def _fits(depths: list[int], width: int, seeds: int) -> bool:
    """Whether the predictions' bands apply to a probe of this size."""
    smallest, largest = DEPTHS
    return smallest <= depths[0] and depths[-1] <= largest and width >= LEAST_WIDTH and seeds >= LEAST_SEEDS


def _predictions(verdicts: list[Verdict], fits: bool) -> Table:
    columns = [
        Column(name, name, right=False)
        for name in ("scheme", "setting", "claim", "predicted", "measured", "verdict", "source")
    ]
    rows = []
    for one in verdicts:
        claim = one.prediction
        rows.append([one.scheme, claim.setting, claim.claim, one.predicted, one.measured, one.verdict, claim.source])
    records = [dict(zip((column.key for column in columns), row, strict=True)) for row in rows]
    count = {verdict: sum(one.verdict == verdict for one in verdicts) for verdict in (FAILS, UNDECIDED, UNJUDGED)}
    if fits:
        note = f"{counted(len(verdicts), 'prediction')}, {count[FAILS]} of which "
        note += f"{'does' if count[FAILS] == 1 else 'do'} not hold here"
    else:
        smallest, largest = DEPTHS
        note = (
            f"{counted(len(verdicts), 'prediction')}, {count[UNJUDGED]} not judged: they apply to depths {smallest} to "
        )
        note += f"{largest}, a width of at least {LEAST_WIDTH} and at least {LEAST_SEEDS} seeds"
    note += f"; {count[UNDECIDED]} not decided." if count[UNDECIDED] else "."
    return Table("Predictions", columns, rows, (note,), records)
