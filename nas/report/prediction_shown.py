"""How is a person told how far predicted costs were right: sentences and a table."""

from __future__ import annotations

from nas.report.evidence import Summary
from nas.report.fidelity import agreement
from nas.report.prediction import BAR, PredictedCost
from nas.report.table import Table, quantity

# What a predictor's member sees, in words.
MEMBERS = {"means": "averages over layers", "parts": "sums over parts"}


def prediction_words(summary: Summary) -> list[str]:
    """What was predicted from how many timings, how right, and what the front took."""
    return [sentence for each in summary.predicted for sentence in _words(each)]


def prediction_tables(summary: Summary) -> tuple[Table, ...]:
    """The networks that were measured beside what had been predicted, for each cost."""
    return tuple(_table(each) for each in summary.predicted if each.used and each.networks)


def _words(found: PredictedCost) -> list[str]:
    name, errors = found.metric.name, found.errors
    counted = f", number of parameters alone {agreement(errors.params)}" if errors.params else ""
    said = [
        f"{name} ({found.workload}) was learnt from {errors.count} timed networks, by "
        f"{MEMBERS[found.member]}: on timings held out the mean error is {errors.mape:.1%} "
        f"[{errors.low:.1%}, {errors.high:.1%}], Kendall's tau {agreement(errors.tau)}{counted}."
    ]
    if not found.used:
        return [*said, f"This is not shown to be of use, so {name} was measured of each network."]
    if found.median_error is not None:
        many = len(found.networks)
        word = "within" if found.median_error <= BAR else "beyond"
        said.append(
            f"Predicted {name} of the {many} network{'s' * (many != 1)} that came to the front "
            f"lies {found.median_error:.1%} from the measured one in the median, {word} the "
            f"{BAR:.0%} that are asked for. The front stands with what was measured; search and "
            "controls are compared by what was predicted of all."
        )
    if found.failed:
        said.append(f"{found.failed} of the front could not be measured and stand as predicted.")
    return said


def _table(found: PredictedCost) -> Table:
    metric = found.metric
    return Table(
        f"{metric.name}, predicted and then measured",
        ("trial", "architecture", "predicted", "measured", "error"),
        tuple(
            (
                f"search {each.index}",
                each.architecture_id,
                quantity(each.predicted, metric),
                quantity(each.measured, metric),
                f"{(each.predicted - each.measured) / each.measured:+.1%}",
            )
            for each in found.networks
        ),
        (("architecture",),),
    )
