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
    name = found.metric.name
    said = []
    if found.errors is not None:
        errors = found.errors
        counted = (
            f", number of parameters alone {agreement(errors.params)}" if errors.params else ""
        )
        said.append(
            f"{name} ({found.workload}) was learnt from {errors.count} timed networks, by "
            f"{MEMBERS[found.member or '']}: on timings held out the mean error is "
            f"{errors.mape:.1%} [{errors.low:.1%}, {errors.high:.1%}], Kendall's tau "
            f"{agreement(errors.tau)}{counted}."
        )
    return [*said, *(_as_predicted(found) if found.used else _as_measured(found))]


def _as_predicted(found: PredictedCost) -> list[str]:
    name, said = found.metric.name, []
    if found.median_error is not None:
        word = "within" if found.median_error <= BAR else "beyond"
        said.append(
            f"Predicted {name} of the {_networks(found)} that came to the front lies "
            f"{found.median_error:.1%} from the measured one in the median, {word} the {BAR:.0%} "
            "that are asked for. The front stands with what was measured: medians of turns, each "
            "brought to the speed of the timings by a reference network before and after. Search "
            "and controls are compared by what was predicted of all."
        )
    if found.unmeasured:
        said.append(
            f"{found.unmeasured} of the front {'was' if found.unmeasured == 1 else 'were'} not "
            "measured (yet, or for an error, or for limits set later): as predicted."
        )
    return said


def _as_measured(found: PredictedCost) -> list[str]:
    name = found.metric.name
    if found.errors is not None:
        said = [f"This is not shown to be of use, so {name} was measured of each network."]
    else:
        said = [f"{name} ({found.workload}) was measured of each network; none was predicted."]
    if found.median_error is not None:
        said.append(
            f"Of the {_networks(found)} that came to the front it was measured anew: in the median "
            f"that is {found.median_error:.1%} from the first taking. The front stands with the "
            "later figures."
        )
    return said


def _networks(found: PredictedCost) -> str:
    many = len(found.networks)
    return f"{many} network{'s' * (many != 1)}"


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
                f"{each.predicted / each.measured - 1:+.1%}" if each.measured else "none",
            )
            for each in found.networks
        ),
        (("architecture",),),
    )
